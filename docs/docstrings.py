"""From this library's docstrings, plain text with plain-text maths, to reStructuredText.

Two things differ. A star, a bar or an underscore is part of a formula here and markup there; and
an indented block is laid out as it stands here, and a paragraph of prose there.
"""

from __future__ import annotations

import re

SECTIONS = frozenset(
    "Args Attributes Returns Yields Raises Note Notes Example Examples References".split()
)
"""What napoleon turns into fields: its lines are indented, and are prose."""


def to_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring, translated."""
    result: list[str] = []
    section: int | None = None  # the indent of the section's head
    block: int | None = None  # the indent of a block laid out as it stands
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
            result.append(_escaped(line))
        blank = False
    return result


def _escaped(line: str) -> str:
    """`code` as ``code``, and outside of it no character that is markup."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else _plain(part) for part in parts
    )


def _plain(text: str) -> str:
    text = re.sub(r"([*|\\])", r"\\\1", text)
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
