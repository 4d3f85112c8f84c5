"""Verdicts on the implementations, and on the audit itself, with their bounds.

The bounds are those that logit-space arithmetic reaches; they are the same for every subject.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from conformance.audit.measures.measure import Measurement
from conformance.audit.subjects.specimens import SPECIMENS

VALUE_ULPS = 3.0
LOG_DERIVATIVE_ULPS = 16.0
GRADIENT_ULPS = 16.0
EVALUATIONS = {"float32": 40, "float64": 65}
MEAN_EVALUATIONS = 10.0
MEDIAN_ROUND_TRIP = {"float32": 1e-5, "float64": 1e-12}
BITS = {"float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True)
class Verdict:
    """One statement about one subject.

    Attributes:
        who: Name of the subject.
        finding: Aspect, such as "value" or "inverse".
        status: "good", "bad", or "note", which does not affect the exit status.
        text: Statement with its numbers.
    """

    who: str
    finding: str
    status: str
    text: str


def of_subject(found: Measurement) -> list[Verdict]:
    """Return the verdicts that need no model."""
    about = _About(str(found.subject))
    if found.broken:
        return [about("outputs", f"raised {found.broken}", holds=False)]
    random = {name: s and s["all"] for name, s in found.numbers["accuracy"]["random"].items()}
    extremes = {name: s and s["all"] for name, s in found.numbers["accuracy"]["extremes"].items()}
    value, slope = random["y"]["max"], random["l"]["max"]
    return [
        about(
            "value",
            f"y is off by at most {number(value)} u (allowed {VALUE_ULPS:g} u) on "
            f"{random['y']['count']} random mixtures",
            holds=value <= VALUE_ULPS,
        ),
        about(
            "log-derivative",
            f"log dy/dx is off by at most {number(slope)} u (allowed {LOG_DERIVATIVE_ULPS:g} u)",
            holds=slope <= LOG_DERIVATIVE_ULPS,
        ),
        _non_finite(found, about),
        _gradient(random, about),
        _dead(found, about),
        *_extremes(extremes, about),
        _inverse(found.numbers["inverse"], about),
    ]


@dataclass(frozen=True)
class _About:
    """Factory of verdicts on one subject."""

    who: str

    def __call__(self, finding: str, text: str, *, holds: bool | None) -> Verdict:
        """Return a verdict; `holds` is None for a note."""
        status = "note" if holds is None else "good" if holds else "bad"
        return Verdict(self.who, finding, status, text)


def _non_finite(found: Measurement, about: _About) -> Verdict:
    share = max(
        s["all"]["non_finite_percent"]
        for sets in found.numbers["accuracy"].values()
        for s in sets.values()
        if s
    )
    if share:
        return about("non-finite", f"up to {share:.1f} % of results are not finite", holds=False)
    return about("non-finite", "every result is finite where the exact one is", holds=True)


def _gradient(random: dict[str, Any], about: _About) -> Verdict:
    names = {"y_x": "of y by x", "l_x": "of log dy/dx by x", "parameters": "of y by parameters"}
    given = {text: random[name]["max"] for name, text in names.items() if random[name]}
    if not given:
        return about("gradient", "gradients were not audited: the adapter has no vjp", holds=None)
    worst = max(given, key=lambda name: given[name])
    text = (
        f"gradients are off by at most {number(given[worst])} u (allowed {GRADIENT_ULPS:g} u), "
        f"worst {worst}"
    )
    return about("gradient", text, holds=given[worst] <= GRADIENT_ULPS)


def _dead(found: Measurement, about: _About) -> Verdict:
    signs = {"left": "-", "right": ""}
    dead = [
        f"{side} of {signs[side]}{x:.3g}"
        for side, x in found.numbers["dead_from_x"].items()
        if x is not None
    ]
    if dead:
        text = f"y is constant or has no gradient {' and '.join(dead)}"
        return about("dead zone", text, holds=False)
    return about("dead zone", "y increases wherever it should, up to |x| = 10 000", holds=True)


def _extremes(extremes: dict[str, Any], about: _About) -> list[Verdict]:
    value, slope = extremes["y"]["max"], extremes["l"]["excess_max"]
    return [
        about(
            "value at extremes",
            f"|x| to 1e30, log-scales to 30, logits to 1e4: y is off by at most {number(value)} u",
            holds=value <= VALUE_ULPS,
        ),
        about(
            "log-derivative at extremes",
            f"same points: log dy/dx is off by at most {number(slope)} times its conditioning",
            holds=slope <= LOG_DERIVATIVE_ULPS,
        ),
    ]


def _inverse(found: dict[str, Any], about: _About) -> Verdict:
    for kind, result in found.items():
        if "raised" in result:
            text = f"raised {result['raised']} on {kind} targets"
            return about("inverse", text, holds=False)
    missed = {kind: result["missed_percent"] for kind, result in found.items()}
    count = sum(result["count"] for result in found.values())
    if not any(missed.values()):
        text = f"meets all {count} targets up to 1e6, to the nearest representable x"
        return about("inverse", text, holds=True)
    text = (
        f"misses {missed['hard']:.0f} % of targets up to 1e6, and {missed['ordinary']:.0f} % of "
        "ordinary ones"
    )
    return about("inverse", text, holds=False)


def of_newton(who: str, dtype: str, found: dict[str, Any]) -> Verdict:
    """Return the verdict on the evaluations of flowpp's inverse, from its certificates."""
    mean = found["ordinary"]["evaluations"]["mean"]
    most = max(f["evaluations"]["max"] for f in found.values())
    good = mean <= MEAN_EVALUATIONS and most <= EVALUATIONS[dtype]
    text = (
        f"{mean:.1f} evaluations on average for ordinary mixtures (allowed {MEAN_EVALUATIONS:g}), "
        f"{most} at most for any (allowed {EVALUATIONS[dtype]})"
    )
    return Verdict(who, "evaluations", "good" if good else "bad", text)


def of_model(who: str, dtype: str, study: dict[str, Any]) -> list[Verdict]:
    """Return verdicts on round trips and bits per dimension of a model with these mixtures."""
    results = []
    for state, trip in study["round_trips"][who].items():
        if "raised" in trip:
            results.append(Verdict(who, "round trip", "bad", f"{state}: raised {trip['raised']}"))
            continue
        allowed = MEDIAN_ROUND_TRIP[dtype]
        total = trip["prior"]["total"]
        good = total["median"] < allowed
        results.append(
            Verdict(
                who,
                "round trip",
                "good" if good else "bad",
                f"{state} model, noise to image and back: median error {number(total['median'])} "
                f"in z (allowed {allowed:g}), largest {number(total['max'])}",
            )
        )
    cost = study["mixtures"][who]
    if "cannot" in cost:
        return [*results, Verdict(who, "bits/dim", "bad", f"raised {cost['cannot']}")]
    good = cost["non_finite_percent"] == 0 and abs(cost["mean_difference"]) <= BITS[dtype]
    text = f"bits/dim of the model differ from float64 by {number(cost['mean_difference'])}"
    if cost["non_finite_percent"]:
        text += f"; {cost['non_finite_percent']:.0f} % of images have no finite value"
    return [*results, Verdict(who, "bits/dim", "good" if good else "bad", text)]


def of_audit(specimens: list[Measurement]) -> list[Verdict]:
    """Return a verdict on the audit for each specimen: good if its flaw was caught."""
    expected = {kind.__name__: set(kind.caught_by) for kind in SPECIMENS}
    results = []
    for found in specimens:
        bad = {v.finding for v in of_subject(found) if v.status == "bad"}
        missing = expected[found.subject.name] - bad
        text = f"caught: {', '.join(sorted(bad))}" if not missing else (
            f"not caught: {', '.join(sorted(missing))}"
        )  # fmt: skip
        results.append(Verdict(str(found.subject), "specimen", "bad" if missing else "good", text))
    return results


def number(value: float | None) -> str:
    """Format a number for a sentence or a table."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    if value == 0:
        return "0"
    return f"{value:.2g}" if 0.01 <= abs(value) < 100 else f"{value:.1e}"
