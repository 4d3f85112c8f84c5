"""Effect of clamping the CDF: where y is constant, and how large the errors are.

With p = clip(F, eps, 1 - eps) the logit is limited to +-log((1 - eps) / eps). Beyond that, y is
constant and its gradient 0, while the log-derivative of the unclamped density belongs to a
different map.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.audit.grids import Points, repeat
from conformance.audit.measures.accuracy import errors
from conformance.audit.subjects.specimens import clamped_at
from conformance.audit.subjects.subject import Subject
from conformance.audit.truth import Truth, truth

SIZES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-16, 1e-22)
REPORTED = (5.0, 10.0, 20.0, 50.0)
"""|x| at which errors are reported; the mixture's scales are about 1."""


def line(count: int) -> Points:
    """Return the typical mixture along the line, dense where clamps take effect, out to 1e4."""
    half = np.concatenate([np.linspace(0, 60, count)[1:], np.geomspace(70, 1e4, 12)])
    half = np.unique(np.concatenate([half, REPORTED]))
    x = np.concatenate([-half[::-1], [0.0], half])
    return repeat(x, np.zeros(len(x)))


def dead_zone(subject: Subject, points: Points, true: Truth) -> dict[str, float | None]:
    """Return the |x| on each side from which y is constant, non-finite or without gradient.

    Only points whose exact y differ by far more than rounding are considered. None if there is no
    such |x|.
    """
    outputs = subject.evaluate(points)
    dead = ~np.isfinite(outputs.y)
    if outputs.y_x is not None:
        dead |= ~np.isfinite(outputs.y_x) | ((outputs.y_x == 0) & (true.y_x.high > 1e-30))
    moves = np.abs(np.diff(true.y.high)) > 64 * subject.eps * np.maximum(
        1, np.abs(true.y.high[1:])
    )
    with np.errstate(invalid="ignore"):
        constant = moves & ~(np.diff(outputs.y) > 0)
    dead[1:] |= constant & (points.x[1:] > 0)
    dead[:-1] |= constant & (points.x[:-1] < 0)
    sides = {"left": points.x < 0, "right": points.x > 0}
    return {
        side: float(np.abs(points.x[where & dead]).min()) if (where & dead).any() else None
        for side, where in sides.items()
    }


def sweep(count: int) -> dict[str, Any]:
    """Measure every clamp in both dtypes: dead zones, and absolute errors at a few x."""
    points = line(count)
    found: dict[str, Any] = {"sizes": list(SIZES), "x": list(REPORTED)}
    for dtype in ("float32", "float64"):
        rounded = points.rounded(dtype)
        true = truth(rounded)
        where = np.flatnonzero(np.isin(rounded.x, np.concatenate([REPORTED, -np.array(REPORTED)])))
        found[dtype] = []
        for size in SIZES:
            subject = Subject("clamped", clamped_at(size), dtype, "specimen")
            outputs = subject.evaluate(rounded)
            in_u = errors(subject, outputs, true)
            found[dtype].append(
                {
                    "eps": size,
                    "limit": float(np.log((1 - size) / size)),
                    "dead_from": dead_zone(subject, rounded, true),
                    "at": {
                        f"{rounded.x[i]:g}": {
                            "true y": float(true.y.high[i]),
                            "y": float(true.y.error(outputs.y)[i]),
                            "log-derivative": float(true.l.error(outputs.l)[i]),
                            "gradient": _relative(outputs.y_x, true, int(i)),
                        }
                        for i in where
                    },
                    "wrong_points_percent": 100 * float(np.mean(in_u.by["y"] > 64)),  # type: ignore[operator]
                }
            )
    return found


def _relative(y_x: np.ndarray | None, true: Truth, i: int) -> float:
    assert y_x is not None  # specimens have gradients
    return float(true.y_x.error(y_x)[i] / abs(true.y_x.high[i]))
