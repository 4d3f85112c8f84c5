"""The tables of the audit's page, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.audit.measures.accuracy import EDGES, QUANTITIES, region_name
from conformance.audit.measures.inversion import REGIONS, region
from conformance.audit.measures.measure import Measurement
from conformance.audit.report import terminal
from conformance.audit.run import NEWTON
from conformance.audit.subjects.specimens import SPECIMENS
from conformance.audit.verdicts import (
    GRADIENT_ULPS,
    LOG_DERIVATIVE_ULPS,
    VALUE_ULPS,
    Verdict,
    number,
)
from conformance.reports.pages import Failing

INVERSE_ONLY = ("GuessedBracket", "FixedBracket", "ClippedInverse")
"""Specimens whose forward pass is correct."""

TOLERANCES = {"y": VALUE_ULPS, "l": LOG_DERIVATIVE_ULPS}


@dataclass(frozen=True)
class Table:
    """Column titles, and rows of text.

    Attributes:
        header: One title per column.
        rows: Cells; those of type `Failing` are highlighted.
        title: Heading of the table, or "".
        quantity: Measurement quantity, a key of `QUANTITIES`, or "".
    """

    header: Sequence[str]
    rows: list[list[str]]
    title: str = ""
    quantity: str = ""


def accuracy(measured: Sequence[Measurement]) -> list[Table]:
    """Return a table of the largest errors for each quantity, by region of |y|."""
    regions = [region_name(a, b) for a, b in zip(EDGES[:-1], EDGES[1:], strict=True)]
    header = ["|y|", *regions, "excess over conditioning", "non-finite"]
    return [
        Table(
            header,
            list(_accuracy_rows(measured, quantity, regions)),
            f"Largest error of the {name}, in u",
            quantity,
        )
        for quantity, name in QUANTITIES.items()
    ]


def _accuracy_rows(
    measured: Sequence[Measurement], quantity: str, regions: Sequence[str]
) -> Iterable[list[str]]:
    for m in measured:
        errors = m.numbers["accuracy"]["random"][quantity]
        if errors is None:
            continue
        yield [
            str(m.subject),
            *(_largest(errors.get(name), quantity) for name in regions),
            number(errors["all"]["excess_max"]),
            f"{errors['all']['non_finite_percent']:.1f} %",
        ]


def _largest(errors: dict[str, Any] | None, quantity: str) -> str:
    if errors is None:
        return ""
    bad = errors["max"] > TOLERANCES.get(quantity, GRADIENT_ULPS)
    return _cell(number(errors["max"]), fails=bad)


def first_wrong(measured: Sequence[Measurement]) -> Table:
    """Return the smallest |x| at which each quantity is wrong, for both tails."""
    rows = []
    for m in measured:
        if m.subject.name in INVERSE_ONLY:
            continue
        first, constant = m.numbers["first_wrong_x"], m.numbers["dead_from_x"]
        rows.append(
            [
                str(m.subject),
                *(
                    _sides(first[quantity], loss)
                    for quantity in ("y", "l", "y_x")
                    for loss in ("six bits", "one percent")
                ),
                _sides({side: {"x": x} for side, x in constant.items()}, "x"),
            ]
        )
    header = [
        "", "y: six bits lost", "y: 1 % wrong", "log dy/dx: six bits lost", "log dy/dx: 1 % wrong",
        "dy/dx: six bits lost", "dy/dx: 1 % wrong", "y is constant",
    ]  # fmt: skip
    return Table(header, rows)


def _sides(sides: dict[str, Any] | None, key: str) -> str:
    if sides is None:
        return "-"
    values = [sides[side][key] for side in ("left", "right")]
    if values == [None, None]:
        return "never"
    return Failing(" / ".join("never" if v is None else f"{v:.3g}" for v in values))


def clamps(sweep: dict[str, Any], model: dict[str, Any]) -> Table:
    """Return the errors, and the cost in bits/dim, of each clamp in each dtype."""
    rows = []
    for dtype in ("float32", "float64"):
        for i, row in enumerate(sweep[dtype]):
            at = row["at"]["20"]
            cells = [
                f"{row['eps']:.0e}",
                dtype,
                f"{row['limit']:.1f}",
                _sides({side: {"x": x} for side, x in row["dead_from"].items()}, "x"),
                *(number(at[name]) for name in ("y", "log-derivative", "gradient")),
            ]
            for state in ("trained", "untrained"):
                costs = model["clamp"][state][dtype][i] if "clamp" in model else None
                cells += ["-"] * 3 if costs is None else _cost(costs)
            rows.append(cells)
    header = [
        "eps", "dtype", "largest |y|", "y constant from |x|, left / right", "error at x = 20: y",
        "log dy/dx", "dy/dx, relative", "trained: clamped",
        "bits/dim - exact: mean / worst image", "non-finite", "untrained: clamped",
        "mean / worst image", "non-finite",
    ]  # fmt: skip
    return Table(header, rows)


def _cost(costs: dict[str, float]) -> list[str]:
    lost = costs["non_finite_percent"]
    return [
        f"{costs['touched_percent']:.2g} %",
        f"{costs['mean_difference']:+.0e} / {costs['largest_difference']:.0e}",
        Failing(f"{lost:.1f} %") if lost else "0",
    ]


def inversion(methods: dict[str, Any]) -> Table:
    """Return evaluations, missed targets and errors of each method of inversion."""
    rows = []
    for dtype, found in methods.items():
        newton = found[NEWTON]["hard"]["evaluations"]["mean"]
        for name, by_kind in found.items():
            hard, ordinary = by_kind["hard"], by_kind["ordinary"]
            evaluations, missed = hard["evaluations"], hard["missed_percent_by_target"]
            rows.append(
                [
                    name.replace("+-", "±"),
                    dtype,
                    f"{ordinary['evaluations']['mean']:.1f}",
                    f"{evaluations['mean']:.1f} / {evaluations['max']}",
                    f"{evaluations['mean'] / newton:.1f}",
                    _percent(ordinary["missed_percent"]),
                    *(_percent(missed.get(region(*bounds))) for bounds in REGIONS),
                    number(hard["error_in_u"]["median"]),
                    number(hard["error_in_u"]["max_beyond_the_nearest_number"]),
                ]
            )
    header = [
        "method and bracket", "dtype", "evaluations, ordinary", "hard: mean / max", "cost",
        "missed, ordinary", *(f"hard, |t|\u00a0{region(*bounds)}" for bounds in REGIONS),
        "median error, u", "largest error, u (5 allowed)",
    ]  # fmt: skip
    return Table(header, rows)


def inverses(measured: Sequence[Measurement]) -> Table:
    """Return missed targets and the largest error of each implementation's own inverse."""
    header = ["", "missed, ordinary", "missed, hard", "largest error, u (5 allowed)"]
    rows = []
    for m in measured:
        inverse = m.numbers["inverse"]
        missed = [terminal.missed(inverse[kind]) for kind in ("ordinary", "hard")]
        rows.append([str(m.subject), *missed, _worst(inverse["hard"])])
    return Table(header, rows)


def _worst(result: dict[str, Any]) -> str:
    if "raised" in result:
        return Failing(result["raised"])
    return number(result["error_in_u"]["max_beyond_the_nearest_number"])


def _percent(value: float | None) -> str:
    return "" if value is None else _cell(f"{value:.0f} %", fails=bool(value))


def round_trips(model: dict[str, Any]) -> Table:
    """Return the errors of round trips from data and from the prior."""
    header = [
        "mixture in the couplings", "model", "x → z → x: median, grey levels", "largest",
        "z → x → z: median", "largest",
    ]  # fmt: skip
    rows = []
    for who, states in model.get("round_trips", {}).items():
        for state, trip in states.items():
            if "raised" in trip:
                rows.append([who, state, Failing(trip["raised"]), "", "", ""])
                continue
            totals = [trip[start]["total"] for start in ("data", "prior")]
            errors = [number(total[name]) for total in totals for name in ("median", "max")]
            rows.append([who, state, *errors])
    return Table(header, rows)


def dtypes(model: dict[str, Any]) -> Table:
    """Return the change in bits/dim of each dtype against float64."""
    rows = []
    for row in model.get("dtypes", []):
        if "cannot" in row:
            rows.append([row["dtype"], f"not run: {row['cannot']}", ""])
        else:
            rows.append([row["dtype"], *_difference(row)])
    return Table(["dtype", "bits/dim - exact, mean", "worst image"], rows)


def mixtures(model: dict[str, Any]) -> Table:
    """Return the change in bits/dim when only the mixtures are replaced."""
    rows = []
    for name, row in {**model.get("mixtures", {}), **model.get("specimens", {})}.items():
        if "cannot" in row:
            rows.append([name, row["cannot"], "", ""])
        else:
            rows.append([name, *_difference(row), f"{row['non_finite_percent']:.0f} %"])
    return Table(["mixture", "bits/dim - exact, mean", "worst image", "images non-finite"], rows)


def _difference(row: dict[str, float]) -> list[str]:
    return [f"{row['mean_difference']:+.1e}", f"{row['largest_difference']:.1e}"]


def model_facts(model: dict[str, Any]) -> str:
    """Return one sentence on the model and its images, or "" if none was evaluated."""
    if "bits_per_dim" not in model:
        return ""
    bits = model["bits_per_dim"]
    return (
        f"Model: {model['model']}; {model['images']} held-out images; "
        f"{bits['trained']:.4f} bits/dim trained, {bits['untrained']:.4f} untrained."
    )


def specimens(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """Return name, formula, flaw and findings of each specimen."""
    findings = {verdict.who.split()[0]: verdict.text for verdict in verdicts}
    rows = [(kind.__name__, kind.formula, kind.flaw) for kind in SPECIMENS]
    return [[name, formula, flaw, findings[name]] for name, formula, flaw in rows]


def environment(numbers: dict[str, Any]) -> list[list[str]]:
    """Return what the numbers depend on, and the seconds of each part."""
    found = numbers["environment"]
    rows = [[name, str(value)] for name, value in found.items() if name != "versions"]
    rows += [[name, value] for name, value in found["versions"].items()]
    return rows + [[f"seconds: {part}", f"{s:.1f}"] for part, s in numbers["seconds"].items()]


def _cell(text: str, *, fails: bool) -> str:
    return Failing(text) if fails else text
