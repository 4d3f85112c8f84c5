"""Specifications with one mistake each, as ports make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.judging.diagnosis.orders import Change, order_mistakes
from conformance.numerics.specs import is_object
from reference.bijectors import (
    ActNorm,
    Affine,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
)

EPSILONS = tuple(10.0**-k for k in range(2, 13))


def mistakes() -> Iterator[tuple[str, Change]]:
    """Yield texts, and functions that return an object with a mistake, or None for none."""
    yield from MISTAKES
    yield from PARAMETER_MISTAKES
    yield from order_mistakes()
    for epsilon in EPSILONS:
        yield f"an epsilon of {epsilon:g} is added to the scale", _with_epsilon(epsilon)


def changed(spec: Any, change: Change, *, in_couplings: bool = False) -> Any:
    """Return a copy with `change` made wherever it applies; None if it applies nowhere.

    With `in_couplings`, it is made also in the bijectors that couplings compute, if there are any.
    """
    found = False

    def walk(value: Any) -> Any:
        nonlocal found
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        if not is_object(value):
            return value
        other = change(value)
        if other is not None:
            found = True
            return other
        if in_couplings and isinstance(value, Coupling):
            found = True
            return _member_of(value, change)
        fields = {f.name: walk(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)

    result = walk(spec)
    return result if found else None


def _transposed(value: Any) -> Any:
    if isinstance(value, InvertibleConv):
        return InvertibleConv(value.weight.swapaxes(1, 2))
    return None


def _inverted(value: Any) -> Any:
    if isinstance(value, InvertibleConv):
        return InvertibleConv(np.linalg.inv(value.weight))
    return None


def _inverse_permutation(value: Any) -> Any:
    if isinstance(value, InvertibleConvLU):
        return dataclasses.replace(value, permutation=np.argsort(value.permutation, axis=1))
    return None


def _negative_scale(value: Any) -> Any:
    if isinstance(value, Affine) and value.log_scale.any():
        return Affine(-value.log_scale, value.shift)
    if isinstance(value, MixtureLogistic) and value.log_scales.any():
        return MixtureLogistic(value.logits, value.means, -value.log_scales)
    if isinstance(value, Coupling):
        return _member_of(value, _negative_scale)
    return None


def _exponentiated(value: Any) -> Any:
    return ActNorm(np.exp(value.gain), value.bias) if isinstance(value, ActNorm) else None


def _inverse_gain(value: Any) -> Any:
    if isinstance(value, ActNorm):
        return ActNorm(1.0 / np.maximum(value.gain, 1e-10), value.bias)
    return None


def _equal_weights(value: Any) -> Any:
    if isinstance(value, MixtureLogistic) and value.logits.shape[-1] > 1:
        return MixtureLogistic(0.0 * value.logits, value.means, value.log_scales)
    return None


def _first_example(value: Any) -> Any:
    """Use the first example's parameters for all."""
    if isinstance(value, Coupling):
        return dataclasses.replace(value, conditioner=_FirstOfBatch(value.conditioner))
    if not isinstance(value, (Affine, MixtureLogistic)):
        return None
    axes = 4 if isinstance(value, Affine) else 5
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if not any(a.ndim == axes and len(a) > 1 for a in fields.values()):
        return None
    first = {n: a[:1] if a.ndim == axes else a for n, a in fields.items()}
    return dataclasses.replace(value, **first)


class _FirstOfBatch:
    def __init__(self, conditioner: Any) -> None:
        self._conditioner = conditioner

    def __call__(self, a: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        raw = self._conditioner(a, context)
        return np.repeat(raw[:1], len(raw), axis=0)


class _Changed:
    """A family whose members have a mistake."""

    def __init__(self, family: Any, change: Change) -> None:
        self._family, self._change = family, change
        self.parameters_per_scalar = family.parameters_per_scalar

    def __call__(self, raw: np.ndarray) -> Any:
        member = self._family(raw)
        other = changed(member, self._change)
        return member if other is None else other


def _member_of(value: Coupling, change: Change) -> Any:
    return dataclasses.replace(value, family=_Changed(value.family, change))


def _with_epsilon(epsilon: float) -> Change:
    def change(value: Any) -> Any:
        if isinstance(value, ActNorm):
            return ActNorm(value.gain + epsilon, value.bias)
        if isinstance(value, Affine):
            return Affine(np.log(np.exp(value.log_scale) + epsilon), value.shift)
        if isinstance(value, MixtureLogistic):
            scales = np.exp(value.log_scales) + epsilon
            return MixtureLogistic(value.logits, value.means, np.log(scales))
        return None

    return change


def _shift_first(value: Any) -> Any:
    if isinstance(value, Affine):
        return Affine(value.log_scale, value.shift * np.exp(value.log_scale))
    if isinstance(value, ActNorm):
        return ActNorm(value.gain, value.bias * np.maximum(value.gain, 1e-10))
    return None


def _no_shift(value: Any) -> Any:
    if isinstance(value, Affine):
        return Affine(value.log_scale, 0.0 * value.shift)
    return ActNorm(value.gain, 0.0 * value.bias) if isinstance(value, ActNorm) else None


def _with(kind: Any, **fields: Callable[[Any], Any]) -> Change:
    """Return a change of fields of one class, each by a function of the object."""

    def change(value: Any) -> Any:
        if not isinstance(value, kind):
            return None
        return dataclasses.replace(value, **{n: make(value) for n, make in fields.items()})

    return change


def _softplus(s: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, s)


def _split_as(kind: type) -> Change:
    splits = (ChannelSplit, Checkerboard, ColumnStripes)
    return lambda value: kind() if isinstance(value, splits) else None


def _mixture_mistakes() -> Iterator[tuple[str, Change]]:
    for field in ("logits", "means", "log_scales"):
        name = field.replace("_", "-")
        if field != "log_scales":  # that is the first of MISTAKES
            yield (
                f"the {name} have the opposite sign",
                _with(MixtureLogistic, **{field: lambda m, f=field: -getattr(m, f)}),
            )
        yield (
            f"the {name} belong to the components in reverse order",
            _with(MixtureLogistic, **{field: lambda m, f=field: getattr(m, f)[..., ::-1]}),
        )
    for one, other in (("logits", "means"), ("logits", "log_scales"), ("means", "log_scales")):
        yield (
            f"the {one} and the {other.replace('_', '-')} of the mixture are exchanged",
            _with(
                MixtureLogistic,
                **{
                    one: lambda m, f=other: getattr(m, f),
                    other: lambda m, f=one: getattr(m, f),
                },
            ),
        )


PARAMETER_MISTAKES: tuple[tuple[str, Change], ...] = (
    *_mixture_mistakes(),
    (
        "the logits of the mixture are exponentiated before the softmax",
        _with(MixtureLogistic, logits=lambda m: np.exp(m.logits)),
    ),
    (
        "the weights of the mixture are normalized sigmoids, not a softmax",
        _with(MixtureLogistic, logits=lambda m: -np.logaddexp(0.0, -m.logits)),
    ),
    (
        "the softmax of the logits is taken twice",
        _with(
            MixtureLogistic,
            logits=lambda m: np.exp(
                m.logits - np.logaddexp.reduce(m.logits, axis=-1, keepdims=True)
            ),
        ),
    ),
    (
        "the scale is the exponential of twice the log-scale",
        _with(Affine, log_scale=lambda a: 2.0 * a.log_scale),
    ),
    (
        "the scales are the exponentials of twice the log-scales",
        _with(MixtureLogistic, log_scales=lambda m: 2.0 * m.log_scales),
    ),
    (
        "the scale is the exponential of half the log-scale",
        _with(Affine, log_scale=lambda a: 0.5 * a.log_scale),
    ),
    (
        "the scales are the exponentials of half the log-scales",
        _with(MixtureLogistic, log_scales=lambda m: 0.5 * m.log_scales),
    ),
    (
        "the scale is the softplus of the log-scale, not its exponential",
        _with(Affine, log_scale=lambda a: np.log(_softplus(a.log_scale))),
    ),
    (
        "the scales are the softplus of the log-scales, not their exponentials",
        _with(MixtureLogistic, log_scales=lambda m: np.log(_softplus(m.log_scales))),
    ),
    ("the shift has the opposite sign", _with(Affine, shift=lambda a: -a.shift)),
    ("the bias has the opposite sign", _with(ActNorm, bias=lambda a: -a.bias)),
    (
        "the number of levels is one too small",
        _with(DataLogit, levels=lambda d: max(d.levels - 1, 1)),
    ),
    ("the number of levels is one too large", _with(DataLogit, levels=lambda d: d.levels + 1)),
    ("the halves are those of Checkerboard", _split_as(Checkerboard)),
    ("the halves are those of ColumnStripes", _split_as(ColumnStripes)),
    ("the halves are those of ChannelSplit", _split_as(ChannelSplit)),
)

MISTAKES: tuple[tuple[str, Change], ...] = (
    ("the matrix of the 1x1 convolution is transposed", _transposed),
    ("the matrix of the 1x1 convolution is inverted", _inverted),
    ("the permutation of the LU convolution is applied the wrong way round", _inverse_permutation),
    ("the log-scale has the opposite sign", _negative_scale),
    ("the gain is exponentiated: it is a factor, not a log-scale", _exponentiated),
    ("the gain divides: it must multiply", _inverse_gain),
    ("the weights of the mixture are all equal: its logits are not used", _equal_weights),
    ("the first example's parameters are used for all examples", _first_example),
    ("the shift comes before the scale", _shift_first),
    ("the shift is left out", _no_shift),
)
