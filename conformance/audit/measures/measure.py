"""One subject through everything that needs no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.audit import grids
from conformance.audit.budget import Budget
from conformance.audit.grids import Points
from conformance.audit.measures.accuracy import Errors, errors, first_wrong, joined, summary
from conformance.audit.measures.clamp import dead_zone, line
from conformance.audit.measures.inversion import Search, judged
from conformance.audit.subjects.subject import Subject
from conformance.audit.truth import Truth, truth


class Grids:
    """The points of an audit with their truths, each computed once for every dtype."""

    def __init__(self, budget: Budget, seed: int) -> None:
        self.budget = budget
        self.plane, self.plane_x, self.plane_c = grids.plane(budget.columns, budget.rows)
        rng = np.random.default_rng(seed)
        self._points = {
            f"K = {k}": grids.random_points(rng, k, budget.random) for k in budget.components
        }
        self.random = tuple(self._points)
        self._points |= {
            "extremes": grids.extreme_points(rng, 4, budget.extreme),
            "plane": self.plane,
            "ray": grids.ray(budget.ray),
            "line": line(budget.line),
        }
        self.targets = {
            "ordinary": grids.ordinary_targets(rng, 8, budget.targets),
            "hard": grids.hard_targets(rng, 8, budget.targets),
        }
        self._kept: dict[tuple[str, str], tuple[Points, Truth]] = {}

    def at(self, name: str, dtype: str) -> tuple[Points, Truth]:
        """Points rounded to the dtype, and what is true there."""
        if (name, dtype) not in self._kept:
            points = self._points[name].rounded(dtype)
            self._kept[name, dtype] = points, truth(points)
        return self._kept[name, dtype]


@dataclass(frozen=True)
class Measured:
    """What was found of one subject.

    Attributes:
        subject: whose.
        numbers: for audit.json and for verdicts.
        errors: set of points to its errors, for plots.
    """

    subject: Subject
    numbers: dict[str, Any]
    errors: dict[str, Errors] = field(default_factory=dict)

    @property
    def broken(self) -> str | None:
        """What it raised where it had to answer."""
        return self.numbers.get("raised")


def measure(subject: Subject, at: Grids) -> Measured:
    """Accuracy, first wrong |x|, dead zone and inverse. What it raises is recorded, not raised."""
    found: dict[str, Errors] = {}
    numbers: dict[str, Any] = {
        "name": subject.name, "dtype": subject.dtype, "role": subject.role
    }  # fmt: skip
    try:
        for name in (*at.random, "extremes", "plane", "ray"):
            points, true = at.at(name, subject.dtype)
            found[name] = errors(subject, subject.answer(points), true)
        found["random"] = joined([found[name] for name in at.random])
        numbers["accuracy"] = {name: summary(found[name]) for name in found if name != "ray"}
        points, _ = at.at("ray", subject.dtype)
        numbers["first_wrong_x"] = first_wrong(points, found["ray"], subject.dtype)
        numbers["dead_from_x"] = dead_zone(subject, *at.at("line", subject.dtype))
    except Exception as error:  # a stranger's code may raise anything
        numbers["raised"] = f"{type(error).__name__}: {error}"
        return Measured(subject, numbers, found)
    numbers["inverse"] = {}
    for kind, targets in at.targets.items():
        rounded = targets.rounded(subject.dtype)
        try:
            result = judged(rounded, Search(subject.inverse(rounded)), subject.dtype)
        except Exception as error:
            result = {"raised": f"{type(error).__name__}: {error}"}
        numbers["inverse"][kind] = result
    return Measured(subject, numbers, found)
