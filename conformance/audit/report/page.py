"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from conformance.audit.measures.accuracy import EDGES, QUANTITIES, region_name
from conformance.audit.measures.inversion import REGIONS, region
from conformance.audit.measures.measure import Measured
from conformance.audit.report import html, plots, terminal
from conformance.audit.report.style import CSS
from conformance.audit.run import Report
from conformance.audit.subjects.specimens import SPECIMENS
from conformance.audit.verdicts import Verdict, number

BADGES = {"good": "holds", "bad": "fails", "note": "note"}


def render(report: Report) -> str:
    """The page's text."""
    numbers = report.numbers
    parts = [
        _head(report),
        html.section("Verdicts", _verdicts(report)),
        html.section("How far from the truth", _accuracy(report)),
        html.section("Where on the map it goes wrong", _maps(report)),
        html.section("The first x that is wrong", _first(report)),
        html.section("What a clamp costs", _clamps(numbers)),
        html.section("Inverting the mixture", _inversion(report)),
        html.section("There and back through a whole model", _round_trips(numbers["model"])),
        html.section("What the dtype does to bits per dimension", _dtypes(numbers["model"])),
        html.section("The formulas that fail, and why", _specimens(report)),
        html.section("What these numbers depend on", _environment(numbers)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Numerical audit</title><style>{CSS}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _head(report: Report) -> str:
    environment = report.numbers["environment"]
    return (
        "<h1>Numerical audit of the logistic mixture</h1>"
        f'<p class="verdict {"good" if report.good else "bad"}">'
        f"{escape(terminal.conclusion(report))}</p>"
        "<p>Every implementation computes y = logit F(x) and log dy/dx of a mixture of logistics, "
        "gradients of both, and x from y. Here each is compared with fifty-digit arithmetic, on "
        "inputs rounded to its dtype first. The unit of error is <b>u</b> = eps(dtype) · max(1, "
        "|truth|): one u is the last bit; float32 has 24 bits, float64 has 53.</p>"
        f'<p class="small">{escape(environment["date"])} · seed {environment["seed"]} · '
        f"{escape(environment['processor'])} · torch {escape(environment['torch'])}, "
        f"mixture computed by flowpp's {escape(environment['flowpp_backend'])} backend</p>"
    )


# ---- verdicts ------------------------------------------------------------------------------


def _verdicts(report: Report) -> str:
    groups: dict[str, list[Verdict]] = {}
    for v in report.verdicts:
        groups.setdefault(v.who, []).append(v)
    cards = "".join(
        f'<div class="card"><h3>{escape(who)}</h3>{_list(found)}</div>'
        for who, found in groups.items()
    )
    return (
        f'<div class="cards">{cards}</div><h3>Does the audit see what it must see?</h3>'
        "<p>Published formulas with one known flaw each; float32. Every one must be caught, "
        "otherwise nothing above is worth anything.</p>"
        f'<div class="card">{_list(report.audit, name=True)}</div>'
    )


def _list(found: Iterable[Verdict], *, name: bool = False) -> str:
    rows = "".join(
        f'<li><span class="badge {v.status}">{BADGES[v.status]}</span>'
        f"<b>{escape(v.who if name else v.finding)}</b> {html.text(v.text)}</li>"
        for v in found
    )
    return f"<ul>{rows}</ul>"


# ---- accuracy ------------------------------------------------------------------------------


def _float32(found: Sequence[Measured]) -> list[Measured]:
    return [m for m in found if m.subject.dtype == "float32" and not m.broken]


def _accuracy(report: Report) -> str:
    formulas = ("LogitOfExp", "ClampedLogit", "ThreeLogSumExps")
    compared = [
        m for m in (*report.judged, *report.shown, *report.specimens)
        if not m.broken and (m.subject.role != "specimen" or m.subject.name in formulas)
    ]  # fmt: skip
    groups = {
        dtype: [m for m in compared if m.subject.dtype == dtype]
        for dtype in ("float32", "float64")
    }
    text = html.figure(
        plots.error_curves({dtype: g for dtype, g in groups.items() if g}),
        "Flat and low is right. Lines that climb lose one digit for every factor of ten; at the "
        "top the answer is infinite or NaN. Dotted: what is allowed.",
    )
    names = [region_name(a, b) for a, b in zip(EDGES[:-1], EDGES[1:], strict=True)]
    for quantity, title in QUANTITIES.items():
        rows: list[list[str]] = []
        for m in compared:
            found = m.numbers["accuracy"]["random"][quantity]
            if found is None:
                continue
            rows.append([str(m.subject), *(_cell(found.get(n), quantity) for n in names)])
            rows[-1].append(number(found["all"]["excess_max"]))
            rows[-1].append(f"{found['all']['non_finite_percent']:.1f} %")
        table = html.table(["|y|", *names, "excess over conditioning", "not finite"], rows)
        title = f"Largest error of the {title}, u"
        if quantity in ("y", "l"):
            text += f"<h3>{escape(title)}</h3>{table}"
        else:
            text += f"<details><summary>{escape(title)}</summary>{table}</details>"
    text += (
        '<p class="small">Random mixtures with scales over eight orders of magnitude. Wrong bits '
        "are log2(1 + error in u). Excess over conditioning: the error divided by what rounding "
        "the inputs alone would do, where that is more than 1 u. Gradients are measured against "
        "their own size times the conditioning of log dy/dx.</p>"
    )
    return text


def _cell(found: dict[str, Any] | None, quantity: str) -> str:
    if found is None:
        return ""
    allowed = 3.0 if quantity == "y" else 16.0
    mark = "!" if found["max"] > allowed else ""
    return f"{mark}{number(found['max'])}"


def _maps(report: Report) -> str:
    rows = _float32([*report.judged, *report.shown])[:2]
    rows = rows or [m for m in report.judged if not m.broken][:1]
    rows += [m for m in _float32(report.specimens) if "Bracket" not in m.subject.name
             and "Inverse" not in m.subject.name]  # fmt: skip
    return html.figure(
        plots.heat_maps(report.grids, rows),
        "A mixture of four components, all its scales multiplied by e^(log-scale), at every x. "
        "Pale green: right to the last bits. Dark red: no correct bit. Black: infinite or NaN.",
    )


def _first(report: Report) -> str:
    rows = []
    for m in (*report.judged, *report.shown, *report.specimens):
        if m.broken or m.subject.name in ("GuessedBracket", "FixedBracket", "ClippedInverse"):
            continue
        cells = [str(m.subject)]
        for quantity in ("y", "l", "y_x"):
            sides = m.numbers["first_wrong_x"][quantity]
            for meaning in ("six bits", "one percent"):
                cells.append(_sides(sides, meaning))
        dead = m.numbers["dead_from_x"]
        cells.append(_sides({s: {"x": v} for s, v in dead.items()}, "x"))
        rows.append(cells)
    return (
        "<p>A usual mixture of four components with scales of about 1, followed along both "
        "half-lines to |x| = 1e30. Left tail / right tail; “never” is what one wants.</p>"
        + html.table(
            [
                "",
                "y: six bits lost",
                "y: 1 % wrong",
                "log dy/dx: six bits",
                "1 % wrong",
                "dy/dx: six bits",
                "1 % wrong",
                "y stands still",
            ],
            rows,
        )  # fmt: skip
    )


def _sides(sides: dict[str, Any] | None, meaning: str) -> str:
    if sides is None:
        return "-"
    values = [sides[s][meaning] for s in ("left", "right")]
    if values == [None, None]:
        return "never"
    return "!" + " / ".join("never" if v is None else f"{v:.3g}" for v in values)


# ---- clamps and inversion ------------------------------------------------------------------


def _clamps(numbers: dict[str, Any]) -> str:
    sweep, study = numbers["clamp"], numbers["model"]
    text = (
        "<p>Many codes form F, clip it to [eps, 1 - eps] and take its logit. Where F was clipped "
        "y stands still, no gradient passes, and the log-derivative belongs to another map. In "
        "float32 a clamp below 6e-8 does nothing in the right tail: 1 - eps is 1 there.</p>"
    )
    text += html.figure(
        plots.clamps(sweep, study),
        "Left: a weaker clamp moves the dead zone out, in the right tail only as far as F can be "
        "told from 1. Middle: at x = 20 every clamp is wrong by whole units in float32. Right: "
        "what it does to the likelihood reported for the worst image.",
    )
    rows = []
    for dtype in ("float32", "float64"):
        for i, r in enumerate(sweep[dtype]):
            at = r["at"]["20"]
            row = [
                f"{r['eps']:.0e}", dtype, f"{r['limit']:.1f}",
                _sides({s: {"x": v} for s, v in r["dead_from"].items()}, "x"),
                number(at["y"]), number(at["log-derivative"]), number(at["gradient"]),
            ]  # fmt: skip
            for state in ("trained", "untrained"):
                row += _cost(study["clamp"][state][dtype][i]) if "clamp" in study else ["-"] * 3
            rows.append(row)
    text += html.table(
        ["eps", "dtype", "largest |y|", "dead from |x|, left / right", "error at x = 20: y",
         "log dy/dx", "dy/dx, relative", "trained: touched", "bits/dim - true: mean / worst image",
         "images lost", "untrained: touched", "mean / worst image", "images lost"],
        rows, marked=1,
    )  # fmt: skip
    if "clamp" in study:
        line = (
            f"{_model_line(study)} Touched: scalars that a clamp cuts. Negative: reported as "
            "better than it is. Lost: not finite."
        )
        text += f'<p class="small">{escape(line)}</p>'
    else:
        text += f'<p class="small">No bits/dim: {escape(study["left_out"])}.</p>'
    return text


def _cost(row: dict[str, float]) -> list[str]:
    lost = row["non_finite_percent"]
    return [
        f"{row['touched_percent']:.2g} %",
        f"{row['mean_difference']:+.0e} / {row['largest_difference']:.0e}",
        f"!{lost:.1f} %" if lost else "0",
    ]


def _model_line(study: dict[str, Any]) -> str:
    bits = study["bits_per_dim"]
    return (
        f"Model: {study['model']}; {study['images']} held-out images; "
        f"{bits['trained']:.4f} bits/dim trained, {bits['untrained']:.4f} untrained."
    )


def _inversion(report: Report) -> str:
    methods = report.numbers["inversion"]
    newton = {d: methods[d][plots.NEWTON]["hard"]["evaluations"]["mean"] for d in methods}
    rows = []
    for dtype, found in methods.items():
        for name, by_kind in found.items():
            hard, ordinary = by_kind["hard"], by_kind["ordinary"]
            missed = hard["missed_percent_by_target"]
            rows.append(
                [
                    name.replace("+-", "±"), dtype, f"{ordinary['evaluations']['mean']:.1f}",
                    f"{hard['evaluations']['mean']:.1f} / {hard['evaluations']['max']}",
                    f"{hard['evaluations']['mean'] / newton[dtype]:.1f}",
                    _percent(ordinary["missed_percent"]),
                    *(_percent(missed.get(region(*r))) for r in REGIONS),
                    number(hard["error_in_u"]["median"]),
                    number(hard["error_in_u"]["max_beyond_the_nearest_number"]),
                ]
            )  # fmt: skip
    header = ["method and bracket", "dtype", "evaluations, ordinary", "hard: mean / max",
              "cost", "missed, ordinary", *(f"hard, |t|\u00a0{region(*r)}" for r in REGIONS),
              "median error, u", "largest (5 allowed)"]  # fmt: skip
    text = (
        "<p>Ordinary: mixtures and targets as a model has them at initialization. Hard: scales "
        "over eight orders of magnitude, targets t up to 1e6. A target is met when no nearer "
        "number exists or the true y is within 5 u of it. Bisection stops, as published, when "
        "its bracket is narrower than 1e-12 or after 200 halvings; cost is relative to Newton.</p>"
    )
    for dtype in methods:
        text += html.figure(
            plots.iterations(methods, dtype),
            "Few evaluations and nothing missed is right. Bisection of F cannot tell one x from "
            "another where F rounds to 1, and a root outside a guessed bracket becomes its end."
            + (" In float32 a width of 1e-12 is never reached: all 200 steps are taken."
               if dtype == "float32" else ""),
        )  # fmt: skip
    text += html.table(header, rows, marked=1)
    implementations = [
        [str(m.subject), *(terminal.missed(m.numbers["inverse"][k]) for k in ("ordinary", "hard")),
         _worst(m.numbers["inverse"]["hard"])]
        for m in (*report.judged, *report.shown, *report.specimens)
        if not m.broken
    ]  # fmt: skip
    text += "<h3>The implementations themselves</h3>"
    text += html.table(
        ["", "missed, ordinary", "missed, hard", "largest error, u (5 allowed)"], implementations
    )
    return text


def _worst(result: dict[str, Any]) -> str:
    if "raised" in result:
        return "!" + result["raised"]
    return number(result["error_in_u"]["max_beyond_the_nearest_number"])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{'!' if value else ''}{value:.0f} %"


# ---- models --------------------------------------------------------------------------------


def _round_trips(study: dict[str, Any]) -> str:
    if "round_trips" not in study:
        return f"<p>Left out: {escape(study['left_out'])}.</p>"
    rows = []
    for who, states in study["round_trips"].items():
        for state, trip in states.items():
            if "raised" in trip:
                rows.append([who, state, "!" + trip["raised"], "", "", ""])
                continue
            cells = [who, state]
            for start in ("data", "prior"):
                total = trip[start]["total"]
                cells += [number(total["median"]), number(total["max"])]
            rows.append(cells)
    text = f"<p>{escape(_model_line(study))}</p>"
    text += html.table(
        ["mixture in the couplings", "model", "x → z → x: median, grey levels", "largest",
         "z → x → z: median", "largest"],
        rows, marked=1,
    )  # fmt: skip
    if any("raised" not in t["trained"] for t in study["round_trips"].values()):
        text += html.figure(
            plots.round_trips(study),
            "Each layer alone, at what really reaches it; dotted lines: the whole flow. Errors of "
            "a few last bits everywhere are right; one layer far to the right would be the leak.",
        )
    return text


def _dtypes(study: dict[str, Any]) -> str:
    if "dtypes" not in study:
        return f"<p>Left out: {escape(study['left_out'])}.</p>"
    rows = []
    for row in study["dtypes"]:
        if "cannot" in row:
            rows.append([row["dtype"], f"not run: {row['cannot']}", ""])
        else:
            rows.append([row["dtype"], f"{row['mean_difference']:+.1e}",
                         f"{row['largest_difference']:.1e}"])  # fmt: skip
    text = "<p>Against the same model in float64, same images and noise. Half precisions are "
    text += "autocast: networks in the half one, mixtures in float32.</p>"
    text += html.table(["dtype", "bits/dim - true, mean", "worst image"], rows)
    text += "<h3>The mixture alone exchanged</h3>"
    mixtures = [
        [name, row.get("cannot") or f"{row['mean_difference']:+.1e}",
         "" if "cannot" in row else f"{row['largest_difference']:.1e}",
         "" if "cannot" in row else f"{row['non_finite_percent']:.0f} %"]
        for name, row in {**study["mixtures"], **study["specimens"]}.items()
    ]  # fmt: skip
    return text + html.table(
        ["mixture", "bits/dim - true, mean", "worst image", "images not finite"], mixtures
    )


def _specimens(report: Report) -> str:
    caught = {v.who.split()[0]: v for v in report.audit}
    rows = [
        [kind.__name__, kind.formula, kind.flaw, caught[kind.__name__].text] for kind in SPECIMENS
    ]
    return (
        "<p>Written in NumPy from their mathematics, each with one flaw and everything else "
        "right. Any of them can be judged: <code>python -m conformance.audit --adapter "
        "conformance.audit.subjects.specimens:ClampedLogit</code>.</p>"
        + html.table(["name", "formula", "what is wrong", "found here"], rows).replace(
            "<table>", '<table class="words">'
        )
    )


def _environment(numbers: dict[str, Any]) -> str:
    environment = numbers["environment"]
    rows = [[name, str(value)] for name, value in environment.items() if name != "versions"]
    rows += [[name, value] for name, value in environment["versions"].items()]
    rows += [[f"seconds: {part}", f"{s:.1f}"] for part, s in numbers["seconds"].items()]
    return html.table(["", ""], rows).replace("<table>", '<table class="words">')
