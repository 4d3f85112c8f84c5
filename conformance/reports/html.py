"""The verdict as one HTML file: matrices, and every failure spelled out. Nothing is loaded."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from conformance.judging.result import STATUSES, Result
from conformance.laws import LAWS
from conformance.reports.terminal import FAMILIES, proven, text_of

NAMES = {
    "holds": "hold",
    "fails": "fail",
    "expected": "fail as expected",
    "unsupported": "not supported",
    "left out": "left out",
}

MOST_OPEN = 12
"""Of more failures each is closed, until its cell is clicked on."""


def html_report(cells: Iterable[Result], about: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        cells: what was judged.
        about: adapter, device, seed, examples, seconds.
    """
    cells = list(cells)
    failing = [cell for cell in cells if cell.status == "fails"]
    good = proven(cells)
    verdict = "All laws hold" if good else f"{len(failing)} of {_judged(cells)} fail"
    if not good and not failing:
        verdict = "Nothing could be judged"
    body = [
        f'<h1 class="{"good" if good else "bad"}">{verdict}</h1>',
        _about(cells, about),
        _causes(failing),
        _key(),
    ]
    for family, text in FAMILIES.items():
        for dtype in dict.fromkeys(cell.dtype for cell in cells):
            members = [c for c in cells if c.dtype == dtype and LAWS[c.law].family == family]
            if members:
                body.append(f"<h2>{dtype}{text}: worst error in ulps</h2>{_matrix(members)}")
    if failing:
        few = len(failing) <= MOST_OPEN
        cards = "".join(_card(cell, opened=few) for cell in failing)
        body.append(f"<h2>Failures</h2>{cards}")
    body += [_reasons(cells, status) for status in ("expected", "unsupported", "left out")]
    body.append(_laws(cells))
    title = escape(f"conformance of {about['adapter']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(body)}<script>{SCRIPT}</script></body></html>\n"
    )


def _judged(cells: list[Result]) -> int:
    return sum(cell.status in ("holds", "fails", "expected") for cell in cells)


def _about(cells: list[Result], about: Mapping[str, Any]) -> str:
    count = Counter(cell.status for cell in cells)
    counts = " ".join(
        f'<span class="count {_css(status)}">{count[status]} {NAMES[status]}</span>'
        for status in STATUSES
        if count[status]
    )
    facts = {
        **about,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "written": time.strftime("%Y-%m-%d %H:%M"),
    }
    if "seconds" in facts:
        facts["seconds"] = f"{facts['seconds']:.0f}"
    text = " · ".join(f"{escape(name)} <b>{escape(str(v))}</b>" for name, v in facts.items())
    return f"<p>{counts}</p><p class=facts>{text}</p>"


def _causes(failing: list[Result]) -> str:
    """Probable causes, the most frequent first: one mistake fails many cells."""
    causes = Counter(cell.hint for cell in failing if cell.hint)
    if not causes:
        return ""
    items = "".join(
        f"<li>{escape(hint)} <span class=dim>({number} cell{'s' * (number > 1)})</span></li>"
        for hint, number in causes.most_common(8)
    )
    return f"<h2>Probable causes</h2><ul class=causes>{items}</ul>"


def _key() -> str:
    return (
        "<p class=key>"
        + " ".join(
            f'<span class="count {_css(status)}">{NAMES[status]}</span>' for status in STATUSES
        )
        + " Point at a cell for where its error is worst.</p>"
    )


def _matrix(cells: list[Result]) -> str:
    laws = [law for law in LAWS if any(cell.law == law for cell in cells)]
    heads = "".join(
        f'<th title="{escape(LAWS[law].meaning)}"><span>{law.replace("_", " ")}</span></th>'
        for law in laws
    )
    table: dict[str, dict[str, Result]] = {}
    for cell in cells:
        table.setdefault(cell.case, {})[cell.law] = cell
    rows = "".join(
        f"<tr><th>{escape(case)}</th>{''.join(_td(row.get(law)) for law in laws)}</tr>"
        for case, row in table.items()
    )
    return (
        f"<div class=scroll><table><thead><tr><th>case</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _td(cell: Result | None) -> str:
    if cell is None:
        return "<td></td>"
    text = escape(text_of(cell).rstrip("!~"))
    if cell.status == "fails":
        text = f'<a href="#{_anchor(cell)}">{text}</a>'
    size = (
        ""
        if cell.ulps is None
        else (
            f"{cell.ulps:.3g} ulps, {cell.wrong_bits:.1f} bits wrong, {cell.allowed:.3g} allowed\n"
        )
    )
    title = escape(f"{cell.case} | {cell.law}\n{size}{cell.message}")
    return f'<td class="{_css(cell.status)}" title="{title}">{text}</td>'


def _card(cell: Result, *, opened: bool) -> str:
    rows = [("what", cell.message)]
    if cell.hint:
        rows.insert(0, ("probable cause", cell.hint))
    if cell.ulps is not None:
        rows.append(
            (
                "error",
                f"{cell.ulps:.4g} ulps ({cell.wrong_bits:.1f} bits wrong), "
                f"{cell.allowed:.4g} allowed",
            )
        )
    point = dict(cell.point)
    parameters = point.pop("parameters", {})
    names = {"got": "got", "want": "wanted", "one_ulp": "one ulp", "index": "at index"}
    rows += [
        (names.get(name, name), _shown(value)) for name, value in point.items() if name != "what"
    ]
    rows += [(f"parameter {name}", value) for name, value in parameters.items()]
    body = "".join(
        f'<tr class="{"hint" if name == "probable cause" else ""}"><th>{escape(name)}</th>'
        f"<td>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    again = f"<pre>{escape(cell.reproducer)}</pre>" if cell.reproducer else ""
    return (
        f'<details id="{_anchor(cell)}"{" open" * opened}><summary>{escape(cell.name)}</summary>'
        f"<table class=point>{body}</table>{again}</details>"
    )


def _shown(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _reasons(cells: list[Result], status: str) -> str:
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.status == status:
            reasons.setdefault(cell.message, []).append(f"{cell.case} {cell.law}")
    if not reasons:
        return ""
    items = "".join(
        f'<li title="{escape(", ".join(where[:40]))}">{escape(reason)} '
        f"<span class=dim>({len(where)})</span></li>"
        for reason, where in sorted(reasons.items(), key=lambda item: -len(item[1]))
    )
    return f"<h2>{NAMES[status].capitalize()}</h2><ul>{items}</ul>"


def _laws(cells: list[Result]) -> str:
    used = [LAWS[law] for law in LAWS if any(cell.law == law for cell in cells)]
    rows = "".join(f"<tr><th>{law.name}</th><td>{escape(law.meaning)}</td></tr>" for law in used)
    return f"<details><summary>The laws</summary><table class=point>{rows}</table></details>"


def _anchor(cell: Result) -> str:
    return escape(f"{cell.case}-{cell.law}-{cell.dtype}")


def _css(status: str) -> str:
    return status.replace(" ", "-")


SCRIPT = """
const open = () => {
  const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (card) { card.open = true; card.scrollIntoView(); }
};
addEventListener("hashchange", open); open();
"""
STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #66707a; --paper: #fff; --line: #d5dade;
  --holds: #d9f0dd; --fails: #c62828; --expected: #ffe3b3; --unsupported: #dfe6f5;
  --left-out: #eef0f2; --card: #f6f7f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --dim: #98a2ac; --paper: #16191d;
  --line: #343a41; --holds: #1f4429; --fails: #d23c3c; --expected: #6b4a12;
  --unsupported: #2c3a5c; --left-out: #262b31; --card: #1e2227; } }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 1.5rem auto; padding: 0 1.5rem; max-width: 120rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h1.good { color: #2e8540; }
h1.bad { color: var(--fails); }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.facts, .key, .dim { color: var(--dim); } .facts b { color: var(--ink); font-weight: 600; }
.count { padding: .1rem .5rem; border-radius: .25rem; white-space: nowrap; }
.holds { background: var(--holds); } .expected { background: var(--expected); }
.fails { background: var(--fails); color: #fff; font-weight: 600; } .fails a { color: inherit; }
.unsupported { background: var(--unsupported); } .left-out { background: var(--left-out); }
td.unsupported, td.left-out { color: var(--dim); }
.causes li { font-weight: 600; } .causes .dim { font-weight: 400; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scroll td, .scroll th { border: 1px solid var(--line); padding: .12rem .45rem; }
.scroll td { text-align: right; white-space: nowrap; }
.scroll tbody th { text-align: left; font-weight: 400; white-space: nowrap; position: sticky;
  left: 0; background: var(--paper); }
.scroll thead th { font-weight: 600; font-size: .8rem; vertical-align: bottom; line-height: 1.15;
  max-width: 6rem; }
details { background: var(--card); border: 1px solid var(--line); border-radius: .4rem;
  margin: .6rem 0; padding: .5rem .8rem; }
details:target { outline: 2px solid var(--fails); }
summary { font-weight: 600; cursor: pointer; }
.point th { text-align: left; font-weight: 400; color: var(--dim); padding: .1rem 1rem .1rem 0;
  vertical-align: top; white-space: nowrap; }
.point td { font-family: ui-monospace, monospace; font-size: .86rem; overflow-wrap: anywhere; }
.point .hint td { font: inherit; font-weight: 600; color: var(--fails); }
@media (prefers-color-scheme: dark) { .point .hint td { color: #ff8a80; } }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: .3rem;
  padding: .5rem .7rem; overflow-x: auto; font-size: .84rem; margin: .5rem 0 0; }
"""
