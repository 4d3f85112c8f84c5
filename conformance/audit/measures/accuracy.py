"""Errors of an implementation, by region, and the smallest |x| at which it is wrong.

The unit of error, u, is eps(dtype) * max(1, |exact|). The number of wrong bits is log2(1 + error
in u). The excess over conditioning is the error divided by the change of the exact result under a
relative change of eps in every input, where that exceeds 1 u: no arithmetic on rounded inputs can
do better.

Gradient errors are relative to the gradient's magnitude times the conditioning of the
log-derivative, since dy/dx is its exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.audit.grids import Points
from conformance.audit.subjects.subject import Outputs, Subject
from conformance.audit.truth import DoubleDouble, Truth

EDGES = (0.0, 5.0, 15.0, 35.0, 87.0, 700.0, np.inf)
"""Regions of |y|. F rounds to 1 from 16 in float32 and from 37 in float64; e^-87 and e^-700
are close to the smallest numbers of each."""

QUANTITIES = {
    "y": "value y",
    "l": "log-derivative",
    "y_x": "gradient of y by x",
    "l_x": "gradient of the log-derivative by x",
    "parameters": "gradients of y by the parameters",
}
CONDITIONED = ("y_x", "l_x", "parameters")
"""Quantities whose unit already includes the conditioning."""


@dataclass(frozen=True)
class Errors:
    """Errors in u at N points; None where the adapter has no gradients.

    Attributes:
        size: |y|, `(N,)`.
        by: Errors `(N,)` by quantity; infinite where the result is not finite but should be.
        excess: Excess over conditioning, for `y` and `l`.
    """

    size: np.ndarray
    by: dict[str, np.ndarray | None]
    excess: dict[str, np.ndarray]


def errors(subject: Subject, outputs: Outputs, true: Truth) -> Errors:
    """Measure outputs; points whose exact result exceeds the dtype's range have error 0."""
    info = np.finfo(subject.dtype)
    eps, tiny, largest = float(info.eps), float(info.tiny), float(info.max)

    def in_u(got: np.ndarray | None, exact: DoubleDouble, unit: np.ndarray) -> np.ndarray | None:
        if got is None:
            return None
        error = exact.error(got) / (eps * unit + tiny)
        error = np.where(np.abs(exact.high) < largest, error, 0.0)
        return error if error.ndim == 1 else error.max(-1)

    y_unit = np.maximum(1, np.abs(true.y.high))
    l_unit = np.maximum(1, np.abs(true.l.high))
    condition = np.maximum(1, true.l_condition * l_unit)
    y, l = in_u(outputs.y, true.y, y_unit), in_u(outputs.l, true.l, l_unit)  # noqa: E741
    assert y is not None and l is not None
    parameters = [
        in_u(got, exact, (np.maximum(size, least) * condition)[:, None])
        for got, exact, least in (
            # Gradients that can vanish are measured against a lower bound of their terms.
            (outputs.y_logits, true.y_logits, np.ones(1)),
            (outputs.y_means, true.y_means, np.zeros(1)),
            (outputs.y_log_scales, true.y_log_scales, true.y_z_size),
        )
        for size in [np.abs(exact.high).max(-1)]
    ]
    given = [p for p in parameters if p is not None]
    return Errors(
        np.abs(true.y.high),
        {
            "y": y,
            "l": l,
            "y_x": in_u(outputs.y_x, true.y_x, np.abs(true.y_x.high) * condition),
            "l_x": in_u(outputs.l_x, true.l_x, true.l_x_size * condition),
            "parameters": np.max(given, axis=0) if len(given) == 3 else None,
        },
        {
            "y": y / np.maximum(1, true.y_condition),
            "l": l / np.maximum(1, true.l_condition),
        },
    )


def joined(parts: list[Errors]) -> Errors:
    """Concatenate several sets of points."""
    first = parts[0]
    return Errors(
        np.concatenate([p.size for p in parts]),
        {
            name: None
            if any(p.by[name] is None for p in parts)
            else np.concatenate([p.by[name] for p in parts])
            for name in first.by
        },
        {name: np.concatenate([p.excess[name] for p in parts]) for name in first.excess},
    )


def summary(found: Errors) -> dict[str, Any]:
    """Return quantiles, maxima and non-finite shares, over all |y| and for each region."""
    regions = {"all": np.ones(len(found.size), dtype=bool)}
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        regions[region_name(low, high)] = (found.size >= low) & (found.size < high)
    return {
        name: None
        if values is None
        else {
            region: _numbers(values[where], _excess(found, name, values)[where])
            for region, where in regions.items()
        }
        for name, values in found.by.items()
    }


def region_name(low: float, high: float) -> str:
    """Return the name of a region in tables."""
    return f"|y| > {low:g}" if np.isinf(high) else f"{low:g} - {high:g}"


def wrong_bits(error: np.ndarray) -> np.ndarray:
    """Return log2(1 + error in u)."""
    return np.log2(1 + np.asarray(error, dtype=np.float64))


def first_wrong(points: Points, found: Errors, dtype: str) -> dict[str, Any]:
    """Return the smallest |x| on each half-line at which each quantity is wrong.

    Wrong means by more than 64 u (six bits lost), or by more than 1 % of max(1, |exact|). None if
    it never is.
    """
    percent = 0.01 / float(np.finfo(dtype).eps)
    sides = {"left": points.x < 0, "right": points.x > 0}
    return {
        name: None
        if values is None
        else {
            side: {
                "six bits": _smallest(np.abs(points.x[where & (values > 64)])),
                "one percent": _smallest(np.abs(points.x[where & (values > percent)])),
            }
            for side, where in sides.items()
        }
        for name, values in found.by.items()
    }


def _excess(found: Errors, name: str, values: np.ndarray) -> np.ndarray:
    return values if name in CONDITIONED else found.excess[name]


def _smallest(values: np.ndarray) -> float | None:
    return float(values.min()) if values.size else None


def _numbers(values: np.ndarray, excess: np.ndarray) -> dict[str, float] | None:
    if not values.size:
        return None
    finite = values[np.isfinite(values)]
    return {
        "count": len(values),
        "median": quantile(values, 0.5),
        "p99": quantile(values, 0.99),
        "max": float(values.max()),
        "max_finite": float(finite.max()) if finite.size else float("nan"),
        "wrong_bits_p99": float(wrong_bits(np.array(quantile(values, 0.99)))),
        "excess_max": float(excess.max()),
        "non_finite_percent": 100 * float(np.mean(~np.isfinite(values))),
    }


def quantile(values: np.ndarray, q: float) -> float:
    """Return a quantile that is an element of the array, so that infinities are allowed."""
    return float(np.quantile(values, q, method="higher"))
