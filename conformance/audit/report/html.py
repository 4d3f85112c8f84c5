"""Pieces of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape


def text(words: str) -> str:
    """Escaped, and with numbers that do not break at the sign of their exponent."""
    return re.sub(r"(?<=\de)-(?=\d)", "\u2011", escape(words))


def section(title: str, body: str) -> str:
    """A card with a title; `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def figure(svg: str, caption: str) -> str:
    """A picture, and words below it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, marked: int = 0) -> str:
    """Cells are text; those that begin with `!` are shown as failing."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = ""
    for cells in rows:
        body += "<tr>"
        for i, cell in enumerate(cells):
            bad = ' class="fails"' if cell.startswith("!") else ""
            tag = "th" if i <= marked else "td"
            body += f"<{tag}{bad}>{text(cell.removeprefix('!'))}</{tag}>"
        body += "</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'
