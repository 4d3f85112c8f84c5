"""Inverting the mixture: which method and bracket reach which targets, and at what cost.

A target t counts as met when the true y at the root found is within 5 u of it (2 u for the root,
3 u for the arithmetic that looked for it), or when the true y at the two neighbouring numbers of
the dtype lie on either side of it: then no better x exists.
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
MOST = 200
TOLERANCE = 1e-12
REGIONS = ((0.0, 11.5), (11.5, 16.6), (16.6, 87.0), (87.0, np.inf))
"""|t|: 11.5 is the logit of a clamp at 1e-5, 16.6 where float32's F becomes 1."""


@dataclass(frozen=True)
class Search:
    """Roots and what they took.

    Attributes:
        x: `(N,)`.
        evaluations: of the mixture, for each element, `(N,)`; None where it is not told.
    """

    x: np.ndarray
    evaluations: np.ndarray | None = None


Method = Callable[[Points, str], Search]


def judged(targets: Points, search: Search, dtype: str) -> dict[str, Any]:
    """How many targets are met, by region, the errors in u, and the evaluations."""
    t, x = targets.x, search.x.astype(dtype)
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
    if search.evaluations is not None:
        n = search.evaluations
        values, counts = np.unique(n, return_counts=True)
        found["evaluations"] = {
            "mean": float(n.mean()),
            "p99": float(np.quantile(n, 0.99)),
            "max": int(n.max()),
            "histogram": dict(zip(values.tolist(), counts.tolist(), strict=True)),
        }
    return found


def region(low: float, high: float) -> str:
    """As it stands in tables."""
    return f"> {low:g}" if np.isinf(high) else f"{low:g} - {high:g}"


def _distance(points: Points, t: np.ndarray) -> np.ndarray:
    return value(points).error(t)


def bisection(bracket: str, scale: float = 0.0, *, in_logit_space: bool = False) -> Method:
    """Plain bisection, as published: halve until the width is below 1e-12, at most 200 times.

    Args:
        bracket: "exact", "sums" (means +- `scale` sums of scales) or "fixed" (+- `scale`).
        scale: see `bracket`.
        in_logit_space: compare log F - log(1 - F) with y, not F with sigmoid(y).
    """

    def method(targets: Points, dtype: str) -> Search:
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
        for _ in range(MOST):
            going = upper - lower > TOLERANCE
            if not going.any():
                break
            s = PlainSums(lower / 2 + upper / 2, *parameters)
            found = s.log_cdf - s.log_survival if in_logit_space else np.exp(s.log_cdf)
            below = found < goal
            lower = np.where(going & below, s.x, lower)
            upper = np.where(going & ~below, s.x, upper)
            steps += going
        return Search(lower / 2 + upper / 2, steps)

    return method


def chandrupatla(targets: Points, dtype: str) -> Search:
    """SciPy's bracketing method in logit space, from the exact bracket, to the last bit."""
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
        maxiter=MOST,
    )  # fmt: skip
    return Search(result.x, result.nfev)


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
    """One method on one set of targets."""
    with np.errstate(all="ignore"):
        return judged(targets, method(targets, dtype), dtype)


def _cast(targets: Points, dtype: str) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    return targets.x.astype(dtype), tuple(p.astype(dtype) for p in targets.parameters)
