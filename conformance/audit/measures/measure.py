"""All measurements of one implementation that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.audit.budget import Budget
from conformance.audit.grids import (
    Points,
    extreme_points,
    hard_targets,
    ordinary_targets,
    plane,
    random_points,
    ray,
)
from conformance.audit.measures.accuracy import Errors, errors, first_wrong, joined, summary
from conformance.audit.measures.clamp import dead_zone, line
from conformance.audit.measures.inversion import Solution, score
from conformance.audit.subjects.subject import Subject
from conformance.audit.truth import Truth, truth


class Grids:
    """Points of an audit and their exact results, each computed once per dtype."""

    def __init__(self, budget: Budget, seed: int) -> None:
        self.budget = budget
        self.plane, self.plane_x, self.plane_c = plane(budget.columns, budget.rows)
        rng = np.random.default_rng(seed)
        self._points = {
            f"K = {k}": random_points(rng, k, budget.random) for k in budget.components
        }
        self.random = tuple(self._points)
        self._points |= {
            "extremes": extreme_points(rng, 4, budget.extreme),
            "plane": self.plane,
            "ray": ray(budget.ray),
            "line": line(budget.line),
        }
        self.targets = {
            "ordinary": ordinary_targets(rng, 8, budget.targets),
            "hard": hard_targets(rng, 8, budget.targets),
        }
        self._cache: dict[tuple[str, str], tuple[Points, Truth]] = {}

    def with_truth(self, name: str, dtype: str) -> tuple[Points, Truth]:
        """Return points rounded to the dtype, and their exact results."""
        if (name, dtype) not in self._cache:
            points = self._points[name].rounded(dtype)
            self._cache[name, dtype] = points, truth(points)
        return self._cache[name, dtype]


@dataclass(frozen=True)
class Measurement:
    """Measurements of one subject.

    Attributes:
        subject: Implementation and dtype.
        numbers: Contents of audit.json for this subject.
        errors: Errors by name of the set of points, for plots.
    """

    subject: Subject
    numbers: dict[str, Any]
    errors: dict[str, Errors] = field(default_factory=dict)

    @property
    def broken(self) -> str | None:
        """Exception raised by the forward pass or its gradients, or None."""
        return self.numbers.get("raised")


def measure(subject: Subject, grids: Grids) -> Measurement:
    """Measure accuracy, first wrong |x|, dead zone and inverse; record exceptions."""
    found: dict[str, Errors] = {}
    numbers: dict[str, Any] = {
        "name": subject.name, "dtype": subject.dtype, "role": subject.role
    }  # fmt: skip
    try:
        for name in (*grids.random, "extremes", "plane", "ray"):
            points, true = grids.with_truth(name, subject.dtype)
            found[name] = errors(subject, subject.evaluate(points), true)
        found["random"] = joined([found[name] for name in grids.random])
        numbers["accuracy"] = {name: summary(found[name]) for name in found if name != "ray"}
        points, _ = grids.with_truth("ray", subject.dtype)
        numbers["first_wrong_x"] = first_wrong(points, found["ray"], subject.dtype)
        numbers["dead_from_x"] = dead_zone(subject, *grids.with_truth("line", subject.dtype))
    except Exception as error:  # any exception of the audited code is a result
        numbers["raised"] = f"{type(error).__name__}: {error}"
        return Measurement(subject, numbers, found)
    numbers["inverse"] = {}
    for kind, targets in grids.targets.items():
        rounded = targets.rounded(subject.dtype)
        try:
            result = score(rounded, Solution(subject.inverse(rounded)), subject.dtype)
        except Exception as error:
            result = {"raised": f"{type(error).__name__}: {error}"}
        numbers["inverse"][kind] = result
    return Measurement(subject, numbers, found)
