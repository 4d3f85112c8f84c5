"""How far an implementation is from the truth, by region, and from which |x| on it is wrong.

The unit of error, u, is eps(dtype) * max(1, |truth|). Wrong bits are log2(1 + error in u). The
excess over conditioning divides the error by what a relative change of eps in every input does to
the truth, where that is more than 1 u: no arithmetic on rounded inputs can be held to less.

Gradients are measured against their own size, times the conditioning of the log-derivative, since
dy/dx is its exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.audit.grids import Points
from conformance.audit.subjects.subject import Answer, Subject
from conformance.audit.truth import Pair, Truth

EDGES = (0.0, 5.0, 15.0, 35.0, 87.0, 700.0, np.inf)
"""Regions of |y|: F is 1 in float32 from 16 on, in float64 from 37; e^-87 and e^-700 are tiny."""

QUANTITIES = {
    "y": "value y",
    "l": "log-derivative",
    "y_x": "gradient of y by x",
    "l_x": "gradient of the log-derivative by x",
    "parameters": "gradients of y by the parameters",
}
CONDITIONED = ("y_x", "l_x", "parameters")
"""Quantities whose unit already holds the conditioning."""


@dataclass(frozen=True)
class Errors:
    """Errors in u at N points; None where the adapter gives no gradients.

    Attributes:
        size: |y|, `(N,)`.
        by: quantity to errors `(N,)`; infinite where the answer is not finite though the truth is.
        excess: the same over conditioning, for `y` and `l`.
    """

    size: np.ndarray
    by: dict[str, np.ndarray | None]
    excess: dict[str, np.ndarray]


def errors(subject: Subject, answer: Answer, true: Truth) -> Errors:
    """Measure an answer. Points where the truth leaves the dtype's range do not count."""
    info = np.finfo(subject.dtype)
    eps, tiny, largest = float(info.eps), float(info.tiny), float(info.max)

    def in_u(got: np.ndarray | None, want: Pair, unit: np.ndarray) -> np.ndarray | None:
        if got is None:
            return None
        error = want.error(got) / (eps * unit + tiny)
        error = np.where(np.abs(want.high) < largest, error, 0.0)
        return error if error.ndim == 1 else error.max(-1)

    y_unit = np.maximum(1, np.abs(true.y.high))
    l_unit = np.maximum(1, np.abs(true.l.high))
    condition = np.maximum(1, true.l_condition * l_unit)
    y, l = in_u(answer.y, true.y, y_unit), in_u(answer.l, true.l, l_unit)  # noqa: E741
    assert y is not None and l is not None
    parameters = [
        in_u(got, want, (np.maximum(size, least) * condition)[:, None])
        for got, want, least in (
            # A difference of two shares, each up to 1; and a product with z, which may be 0.
            (answer.y_logits, true.y_logits, np.ones(1)),
            (answer.y_means, true.y_means, np.zeros(1)),
            (answer.y_log_scales, true.y_log_scales, true.y_z_size),
        )
        for size in [np.abs(want.high).max(-1)]
    ]
    given = [p for p in parameters if p is not None]
    return Errors(
        np.abs(true.y.high),
        {
            "y": y,
            "l": l,
            "y_x": in_u(answer.y_x, true.y_x, np.abs(true.y_x.high) * condition),
            "l_x": in_u(answer.l_x, true.l_x, true.l_x_size * condition),
            "parameters": np.max(given, axis=0) if len(given) == 3 else None,
        },
        {
            "y": y / np.maximum(1, true.y_condition),
            "l": l / np.maximum(1, true.l_condition),
        },
    )


def joined(parts: list[Errors]) -> Errors:
    """Several sets of points as one."""
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
    """Medians, 99 % points, maxima, non-finite shares: over all |y|, and for each region."""
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
    """As it stands in tables."""
    return f"|y| > {low:g}" if np.isinf(high) else f"{low:g} - {high:g}"


def wrong_bits(error: np.ndarray) -> np.ndarray:
    """log2(1 + error in u)."""
    return np.log2(1 + np.asarray(error, dtype=np.float64))


def first_wrong(points: Points, found: Errors, dtype: str) -> dict[str, Any]:
    """Along both half-lines: the smallest |x| at which each quantity is wrong.

    Two meanings of wrong: more than 64 u (six bits lost), and more than 1 % of max(1, |truth|).
    None where it never is.
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
    """An element of the array: infinities are no obstacle."""
    return float(np.quantile(values, q, method="higher"))
