"""Specifications with one mistake each, as ports make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.numerics.specs import is_object
from reference.bijectors import (
    ActNorm,
    Affine,
    Coupling,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
)

EPSILONS = tuple(10.0**-k for k in range(2, 13))
LOG_SCALES: dict[type, str] = {Affine: "log_scale", MixtureLogistic: "log_scales"}
CLAMPS = (2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0)
Change = Callable[[Any], Any]


def mistakes() -> Iterator[tuple[str, Change]]:
    """Yield texts, and functions that return an object with a mistake, or None for none."""
    yield from MISTAKES
    for end in CLAMPS:
        yield f"log-scales are clamped to +-{end:g}", _with_clamp(end)
    for epsilon in EPSILONS:
        yield f"an epsilon of {epsilon:g} is added to the scale", _with_epsilon(epsilon)


def changed(spec: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy with `change` made wherever it applies; None if it applies nowhere."""
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
        return changed(self._family(raw), self._change)


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


def _with_clamp(end: float) -> Change:
    def change(value: Any) -> Any:
        name = LOG_SCALES.get(type(value), "")
        if not name or not (np.abs(getattr(value, name)) > end).any():
            return None
        return dataclasses.replace(value, **{name: np.clip(getattr(value, name), -end, end)})

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
