"""Inversion of the mixture: targets met, errors and cost of several methods and brackets.

A target t is met if the exact y at the computed root is within 5 u of t (2 u for the root, 3 u
for the arithmetic that computed it), or if t lies between the exact y at the two neighbouring
numbers of the dtype, since then no better x exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import elementwise

from conformance.audit.grids import Points
from conformance.audit.subjects.plain_sums import PlainSums, sigmoid
from conformance.audit.subjects.specimens import exact_bracket
from conformance.audit.truth import value

ALLOWED = 5.0
MAX_STEPS = 200
TOLERANCE = 1e-12
REGIONS = ((0.0, 11.5), (11.5, 16.6), (16.6, 87.0), (87.0, np.inf))
"""Regions of |t|: 11.5 is the logit of a clamp at 1e-5; from 16.6 F rounds to 1 in float32."""


@dataclass(frozen=True)
class Solution:
    """Roots and their cost.

    Attributes:
        x: Roots, `(N,)`.
        evaluations: Evaluations of the mixture per root, `(N,)`; None if unknown.
    """

    x: np.ndarray
    evaluations: np.ndarray | None = None


Method = Callable[[Points, str], Solution]


def score(targets: Points, solution: Solution, dtype: str) -> dict[str, Any]:
    """Return the share of missed targets by region, the errors in u, and the evaluations."""
    t, x = targets.x, solution.x.astype(dtype)
    unit = float(np.finfo(dtype).eps) * np.maximum(1, np.abs(t))
    residual = np.full(len(t), np.inf)
    finite = np.isfinite(x)
    some = targets.take(finite)
    residual[finite] = _distance(some.at(x[finite]), some.x)
    error = residual / unit
    met = error <= ALLOWED
    doubtful = np.flatnonzero(finite & ~met)
    if doubtful.size:
        few, goal = targets.take(doubtful), t[doubtful]
        toward = x.dtype.type(np.inf)
        slack = ALLOWED * unit[doubtful]
        below = value(few.at(np.nextafter(x[doubtful], -toward))).high
        above = value(few.at(np.nextafter(x[doubtful], toward))).high
        met[doubtful] = (below - slack <= goal) & (goal <= above + slack)
    worst = np.where(met, np.minimum(error, ALLOWED), error)
    found: dict[str, Any] = {
        "count": len(t),
        "missed_percent": 100 * float(np.mean(~met)),
        "missed_percent_by_target": {
            region(low, high): 100 * float(np.mean(~met[where]))
            for low, high in REGIONS
            if (where := (np.abs(t) >= low) & (np.abs(t) < high)).any()
        },
        "error_in_u": {
            "median": float(np.median(error)),
            "max": float(error.max()),
            "max_beyond_the_nearest_number": float(worst.max()),
        },
    }
    if solution.evaluations is not None:
        n = solution.evaluations
        values, counts = np.unique(n, return_counts=True)
        found["evaluations"] = {
            "mean": float(n.mean()),
            "p99": float(np.quantile(n, 0.99)),
            "max": int(n.max()),
            "histogram": dict(zip(values.tolist(), counts.tolist(), strict=True)),
        }
    return found


def region(low: float, high: float) -> str:
    """Return the name of a region in tables."""
    return f"> {low:g}" if np.isinf(high) else f"{low:g} - {high:g}"


def _distance(points: Points, t: np.ndarray) -> np.ndarray:
    return value(points).error(t)


def bisection(bracket: str, scale: float = 0.0, *, in_logit_space: bool = False) -> Method:
    """Return plain bisection, as published: halve to a width of 1e-12, at most 200 times.

    Args:
        bracket: "exact", "sums" (means +- `scale` sums of scales) or "fixed" (+- `scale`).
        scale: Size of the bracket.
        in_logit_space: Whether to compare log F - log(1 - F) with y, instead of F with sigmoid(y).
    """

    def method(targets: Points, dtype: str) -> Solution:
        y, parameters = _cast(targets, dtype)
        sums = PlainSums(y, *parameters)
        reach = np.exp(sums.log_scales).sum(-1) * y.dtype.type(scale)
        end = np.full_like(y, scale)
        lower, upper = {
            "exact": exact_bracket(y, sums),
            "sums": (sums.means.min(-1) - reach, sums.means.max(-1) + reach),
            "fixed": (-end, end),
        }[bracket]
        goal = y if in_logit_space else sigmoid(y)
        steps = np.zeros(len(y), dtype=int)
        for _ in range(MAX_STEPS):
            active = upper - lower > TOLERANCE
            if not active.any():
                break
            s = PlainSums(lower / 2 + upper / 2, *parameters)
            found = s.log_cdf - s.log_survival if in_logit_space else np.exp(s.log_cdf)
            below = found < goal
            lower = np.where(active & below, s.x, lower)
            upper = np.where(active & ~below, s.x, upper)
            steps += active
        return Solution(lower / 2 + upper / 2, steps)

    return method


def chandrupatla(targets: Points, dtype: str) -> Solution:
    """Solve with SciPy's bracketing method in logit space, from the exact bracket, to 1 u."""
    y, parameters = _cast(targets, dtype)
    lower, upper = exact_bracket(y, PlainSums(y, *parameters))
    info = np.finfo(dtype)
    margin = 8 * info.eps * (np.abs(lower) + np.abs(upper)) + info.tiny
    unit = info.eps * np.maximum(1, np.abs(y))

    def excess(x: np.ndarray, i: np.ndarray) -> np.ndarray:
        s = PlainSums(x, *(p[i] for p in parameters))
        return (s.log_cdf - s.log_survival - y[i]) / unit[i]

    result = elementwise.find_root(
        excess, (lower - margin, upper + margin), args=(np.arange(len(y)),),
        tolerances={"fatol": 1.0, "xatol": float(info.tiny), "xrtol": float(info.eps)},
        maxiter=MAX_STEPS,
    )  # fmt: skip
    return Solution(result.x, result.nfev)


METHODS: dict[str, Method] = {
    "Chandrupatla, exact bracket": chandrupatla,
    "bisection of y, exact bracket": bisection("exact", in_logit_space=True),
    "bisection of F, exact bracket": bisection("exact"),
    "bisection of F, means +- 20 sums of scales": bisection("sums", 20),
    "bisection of F, means +- 50 sums of scales": bisection("sums", 50),
    "bisection of F, means +- 200 sums of scales": bisection("sums", 200),
    "bisection of F, fixed +- 1000": bisection("fixed", 1e3),
}


def run(method: Method, targets: Points, dtype: str) -> dict[str, Any]:
    """Apply one method to one set of targets, and score it."""
    with np.errstate(all="ignore"):
        return score(targets, method(targets, dtype), dtype)


def _cast(targets: Points, dtype: str) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    return targets.x.astype(dtype), tuple(p.astype(dtype) for p in targets.parameters)
