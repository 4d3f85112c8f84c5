"""Mistakes with a number: clamps of log-scales, factors, another margin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.judging.diagnosis.mistakes import Change
from conformance.numerics.specs import objects
from reference.bijectors import ActNorm, Affine, Coupling, DataLogit, MixtureLogistic

ENDS = (*range(1, 21), *range(22, 51, 2), *range(55, 101, 5))
FACTORS = (0.1, 0.2, 1 / 3, 0.5, 0.7, 0.85, 0.95, 1.05, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
MARGINS = (1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)

SCALES: dict[type, str] = {Affine: "log_scale", MixtureLogistic: "log_scales"}


@dataclass(frozen=True)
class Family:
    """Mistakes that differ in one number: the values to try, and the one without a mistake."""

    values: tuple[float, ...]
    none: float
    change: Callable[[float], Change]
    text: Callable[[float], str]


def families(spec: Any) -> Iterator[Family]:
    """Yield the families that apply to a specification."""
    parts = list(objects(spec))
    conditional = any(isinstance(part, Coupling) for part in parts)
    present = {type(part) for part in parts}
    log_scales = [getattr(p, SCALES[type(p)]) for p in parts if type(p) in SCALES]
    if log_scales or conditional:
        least = min((float(a.min()) for a in log_scales), default=-20.0)
        most = max((float(a.max()) for a in log_scales), default=20.0)
        yield from _clamps(least, most)
    for kind, field, name in (
        (MixtureLogistic, "log_scales", "the log-scales are"),
        (Affine, "log_scale", "the log-scale is"),
        (MixtureLogistic, "logits", "the logits are"),
        (MixtureLogistic, "means", "the means are"),
        (Affine, "shift", "the shift is"),
        (ActNorm, "gain", "the gain is"),
        (ActNorm, "bias", "the bias is"),
    ):
        if kind in present:
            yield Family(
                FACTORS,
                1.0,
                lambda c, kind=kind, field=field: _times(kind, field, c),  # type: ignore[misc]
                lambda c, name=name: f"{name} multiplied by {c:g}",  # type: ignore[misc]
            )
    logits = [part for part in parts if isinstance(part, DataLogit)]
    if logits:
        margin = logits[0].margin
        yield Family(
            tuple(m for m in MARGINS if m != margin),
            margin,
            _with_margin,
            lambda m: f"the margin is {m:g}, not the specification's {margin:g}",
        )


def _clamps(least: float, most: float) -> Iterator[Family]:
    """Yield clamps above, below and at both ends, at numbers that change a log-scale."""
    text = "the log-scales are clamped to "
    for name, ends, reach in (
        ("at most {1:g}", lambda c: (-np.inf, c), most),
        ("at least {0:g}", lambda c: (-c, np.inf), -least),
        ("[{0:g}, {1:g}]", lambda c: (-c, c), min(-least, most)),
    ):
        values = tuple(float(c) for c in ENDS if c < reach)
        if values:
            yield Family(
                values,
                max(reach, most, -least),
                lambda c, ends=ends: _clamped(*ends(c)),  # type: ignore[misc]
                lambda c, ends=ends, name=name: text + name.format(*ends(c)),  # type: ignore[misc]
            )


def _times(kind: Any, field: str, factor: float) -> Change:
    def change(value: Any) -> Any:
        if not isinstance(value, kind):
            return None
        return dataclasses.replace(value, **{field: factor * getattr(value, field)})

    return change


def _clamped(low: float, high: float) -> Change:
    def change(value: Any) -> Any:
        field = SCALES.get(type(value))
        if field is None:
            return None
        return dataclasses.replace(value, **{field: np.clip(getattr(value, field), low, high)})

    return change


def _with_margin(margin: float) -> Change:
    def change(value: Any) -> Any:
        if not isinstance(value, DataLogit):
            return None
        return dataclasses.replace(value, margin=margin)

    return change
