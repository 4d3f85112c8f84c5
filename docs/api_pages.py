"""Sphinx extension: write docs/api/, one page per topic of `api_topics`, and their index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api_topics import GROUPS, Topic, modules_by_topic

ROOT = Path(__file__).parents[1]
TREES = ("flowpp", "reference", "conformance")


def setup(app: Any) -> None:
    """Write the pages before Sphinx looks for sources."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    modules = modules_by_topic([name for tree in TREES for name in module_names(tree)])
    pages = {"index": index_page()}
    for group in GROUPS.values():
        pages |= {topic.name: topic_page(topic, modules[topic.name]) for topic in group}
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:  # Sphinx rebuilds only changed pages
            path.write_text(text)


def module_names(tree: str) -> list[str]:
    """Return the dotted names of a tree's packages and modules, except __main__."""
    paths = sorted((ROOT / tree).rglob("*.py"))
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    return sorted(
        ".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"
    )


def index_page() -> str:
    """Return the index: for each group, its topics with their first lines."""
    page = title("API by topic", "=")
    for group, topics in GROUPS.items():
        page += title(group, "-")
        page += "".join(f"- :doc:`{topic.name}`: {to_rst(topic.text)}\n" for topic in topics)
        page += "\n" + directive("toctree", [topic.name for topic in topics], ":hidden:")
    return page


def topic_page(topic: Topic, modules: list[str]) -> str:
    """Return the page of a topic: a table of its modules, and the docstrings of each."""
    page = title(topic.title, "=") + to_rst(topic.text) + "\n\n"
    page += directive("autosummary", [f"~{name}" for name in modules])
    for name in modules:
        page += title(name, "-") + f".. automodule:: {name}\n\n"
    return page


def to_rst(text: str) -> str:
    """Return a sentence with `code` and [links](page.md) as reStructuredText."""
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    return re.sub(r"\[([^]]+)\]\(([^)]+)\.md\)", r":doc:`\1 <\2>`", text)


def title(text: str, line: str) -> str:
    """Return a heading underlined with a character."""
    return f"{text}\n{line * len(text)}\n\n"


def directive(name: str, lines: list[str], option: str = "") -> str:
    """Return a directive with one entry per line."""
    head = f".. {name}::\n" + (f"   {option}\n" if option else "")
    return head + "\n" + "".join(f"   {line}\n" for line in lines) + "\n"
