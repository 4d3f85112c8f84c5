"""Sphinx extension: translate docstrings, plain text with plain-text maths, to reStructuredText.

Two things differ. A star, bar or underscore belongs to a formula in these docstrings, and is
markup in reStructuredText. An indented block is preformatted here, and a quotation there.
"""

from __future__ import annotations

import re
from typing import Any

SECTIONS = frozenset(
    "Args Attributes Returns Yields Raises Note Notes Example Examples References".split()
)
"""Sections that napoleon turns into fields: their indented lines are prose."""


def setup(app: Any) -> None:
    """Translate before napoleon, which turns "Args:" and the other sections into fields."""
    app.connect("autodoc-process-docstring", translate, priority=100)


def translate(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Translate the lines of a docstring in place."""
    lines[:] = to_rst(lines)


def to_rst(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText."""
    result: list[str] = []
    section: int | None = None  # indent of the section's heading
    block: int | None = None  # indent of a preformatted block
    blank = True
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            result.append("")
            blank = True
            continue
        if block is not None and indent < block:
            block = None
            result += [] if blank else [""]
        if section is not None and indent <= section:
            section = None
        if block is None and text.endswith(":") and text[:-1] in SECTIONS:
            section = indent
            result.append(line)
        elif block is not None or text.startswith(">>>"):
            result.append(line)
        elif blank and section is None and indent > 0:
            result += ["::", "", line]
            block = indent
        else:
            result.append(_escape(line))
        blank = False
    return result


def _escape(line: str) -> str:
    """Mark `code` as ``code``, and escape markup characters elsewhere."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else _escape_text(part) for part in parts
    )


def _escape_text(text: str) -> str:
    text = re.sub(r"([*|\\])", r"\\\1", text)
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
