"""What a clamp of the CDF does: where the map stands still, and how wrong it then is.

With p = clip(F, eps, 1 - eps) the logit cannot leave +-log((1 - eps) / eps). Beyond, y is
constant, its gradient 0, and the log-derivative, taken of the unclamped density, belongs to
another map.
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
SHOWN = (5.0, 10.0, 20.0, 50.0)
"""|x| at which errors are reported, in units of x; the mixture's scales are about 1."""


def line(count: int) -> Points:
    """The usual mixture along the line, fine where clamps begin, then out to 1e4."""
    half = np.concatenate([np.linspace(0, 60, count)[1:], np.geomspace(70, 1e4, 12)])
    half = np.unique(np.concatenate([half, SHOWN]))
    x = np.concatenate([-half[::-1], [0.0], half])
    return repeat(x, np.zeros(len(x)))


def dead_zone(subject: Subject, points: Points, true: Truth) -> dict[str, float | None]:
    """The |x| from which on, on each side, y stands still, is not finite, or has no gradient.

    Judged on points whose true y differ by far more than rounding. None where it never happens.
    """
    answer = subject.answer(points)
    dead = ~np.isfinite(answer.y)
    if answer.y_x is not None:
        dead |= ~np.isfinite(answer.y_x) | ((answer.y_x == 0) & (true.y_x.high > 1e-30))
    moves = np.abs(np.diff(true.y.high)) > 64 * subject.eps * np.maximum(
        1, np.abs(true.y.high[1:])
    )
    with np.errstate(invalid="ignore"):
        still = moves & ~(np.diff(answer.y) > 0)
    dead[1:] |= still & (points.x[1:] > 0)
    dead[:-1] |= still & (points.x[:-1] < 0)
    sides = {"left": points.x < 0, "right": points.x > 0}
    return {
        side: float(np.abs(points.x[where & dead]).min()) if (where & dead).any() else None
        for side, where in sides.items()
    }


def sweep(count: int) -> dict[str, Any]:
    """Every clamp in both dtypes: dead zones, and errors in absolute terms at a few x."""
    points = line(count)
    found: dict[str, Any] = {"sizes": list(SIZES), "x": list(SHOWN)}
    for dtype in ("float32", "float64"):
        rounded = points.rounded(dtype)
        true = truth(rounded)
        where = np.flatnonzero(np.isin(rounded.x, np.concatenate([SHOWN, -np.array(SHOWN)])))
        found[dtype] = []
        for size in SIZES:
            subject = Subject("clamped", clamped_at(size), dtype, "specimen")
            answer = subject.answer(rounded)
            in_u = errors(subject, answer, true)
            found[dtype].append(
                {
                    "eps": size,
                    "limit": float(np.log((1 - size) / size)),
                    "dead_from": dead_zone(subject, rounded, true),
                    "at": {
                        f"{rounded.x[i]:g}": {
                            "true y": float(true.y.high[i]),
                            "y": float(true.y.error(answer.y)[i]),
                            "log-derivative": float(true.l.error(answer.l)[i]),
                            "gradient": _relative(answer.y_x, true, int(i)),
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
