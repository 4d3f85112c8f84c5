"""Sphinx extension: write docs/api/, one page per module, and one index per tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TREES = ("reference", "flowpp", "conformance")
LEFT_OUT = {
    "conformance.conftest": "a pytest hook",
    "conformance.test_laws": "tests",
}
"""Modules without a page, with the reason."""


def setup(app: Any) -> None:
    """Write the pages before Sphinx looks for sources."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    names = {tree: module_names(tree) for tree in TREES}
    unknown = set(LEFT_OUT) - {name for tree in TREES for name in names[tree]}
    if unknown:
        raise ValueError(f"LEFT_OUT must name existing modules, got {sorted(unknown)}")
    pages = {}
    for tree in TREES:
        documented = [name for name in names[tree] if name not in LEFT_OUT]
        pages[f"{tree}-modules"] = index_page(tree, documented)
        pages |= {name: module_page(name, documented) for name in documented}
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


def children(package: str, names: list[str]) -> list[str]:
    """Return the names directly inside a package."""
    return [name for name in names if name.rpartition(".")[0] == package]


def index_page(tree: str, names: list[str]) -> str:
    """Return the index of a tree: for each package, its modules with their first lines."""
    page = title(f"API of {tree}", "=") + directive("toctree", [tree], ":hidden:")
    for package in names:
        inside = [f"~{name}" for name in children(package, names)]
        if inside:
            page += title(package, "-") + directive("autosummary", inside)
    return page


def module_page(name: str, names: list[str]) -> str:
    """Return the page of a module: its docstrings, and the pages inside a package."""
    page = title(name, "=") + f".. automodule:: {name}\n\n"
    inside = [f"{child.rpartition('.')[2]} <{child}>" for child in children(name, names)]
    return page + directive("toctree", inside, ":maxdepth: 1") if inside else page


def title(text: str, line: str) -> str:
    """Return a heading underlined with a character."""
    return f"{text}\n{line * len(text)}\n\n"


def directive(name: str, lines: list[str], option: str = "") -> str:
    """Return a directive with one entry per line."""
    head = f".. {name}::\n" + (f"   {option}\n" if option else "")
    return head + "\n" + "".join(f"   {line}\n" for line in lines) + "\n"
