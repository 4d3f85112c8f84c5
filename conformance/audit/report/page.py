"""The audit's HTML page, from the template `page.html.jinja`."""

from __future__ import annotations

from typing import Any

from conformance.audit.measures.measure import Measurement
from conformance.audit.report import plots, tables, terminal
from conformance.audit.run import Report
from conformance.audit.verdicts import Verdict
from conformance.reports import pages


def render(report: Report) -> str:
    """Return the whole page as one self-contained HTML document."""
    numbers = report.numbers
    model = numbers["model"]
    return pages.render(
        "conformance.audit.report",
        "page.html.jinja",
        good=report.good,
        conclusion=terminal.conclusion(report),
        environment=numbers["environment"],
        by_subject=_by_subject(report.verdicts),
        self_check=report.self_check,
        plots=_plots(report),
        accuracy=tables.accuracy(_compared(report)),
        first_wrong=tables.first_wrong(_measured(report)),
        clamps=tables.clamps(numbers["clamp"], model),
        inversion=tables.inversion(numbers["inversion"]),
        inverses=tables.inverses(_measured(report)),
        round_trips=tables.round_trips(model),
        dtypes=tables.dtypes(model),
        mixtures=tables.mixtures(model),
        model=model,
        model_facts=tables.model_facts(model),
        specimens=tables.specimens(report.self_check),
        facts=tables.environment(numbers),
    )


def _by_subject(verdicts: list[Verdict]) -> list[list[Verdict]]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.who, []).append(verdict)
    return list(groups.values())


def _measured(report: Report) -> list[Measurement]:
    """Return the measurements of all subjects that raised no error."""
    every = (*report.judged, *report.shown, *report.specimens)
    return [m for m in every if not m.broken]


def _compared(report: Report) -> list[Measurement]:
    """Leave out the specimens whose forward pass is correct."""
    flawed = ("LogitOfExp", "ClampedLogit", "ThreeLogSumExps")
    return [
        m for m in _measured(report) if m.subject.role != "specimen" or m.subject.name in flawed
    ]


def _plots(report: Report) -> dict[str, Any]:
    """Return the figures as SVG; `round_trips` is None if there is nothing to show."""
    numbers, compared = report.numbers, _compared(report)
    groups = {
        dtype: [m for m in compared if m.subject.dtype == dtype]
        for dtype in ("float32", "float64")
    }
    methods, model = numbers["inversion"], numbers["model"]
    trips = model.get("round_trips", {})
    traced = any("raised" not in trip["trained"] for trip in trips.values())
    return {
        "accuracy": plots.error_curves({dtype: g for dtype, g in groups.items() if g}),
        "maps": plots.heat_maps(report.grids, _mapped(report)),
        "clamps": plots.clamps(numbers["clamp"], model),
        "iterations": {dtype: plots.iterations(methods, dtype) for dtype in methods},
        "round_trips": plots.round_trips(model) if traced else None,
    }


def _mapped(report: Report) -> list[Measurement]:
    """Return the subjects of the heat maps: float32, where errors are largest."""
    single = [m for m in _compared(report) if m.subject.dtype == "float32"]
    specimens = [m for m in single if m.subject.role == "specimen"]
    audited = [m for m in single if m.subject.role != "specimen"][:2]
    return (audited or [m for m in report.judged if not m.broken][:1]) + specimens
