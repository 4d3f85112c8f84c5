"""Sphinx: the pages of this folder, and one page for each module, from its docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).parent))

from docstrings import to_rst  # noqa: E402

project = "flowpp"
author = "Flow++ dual library authors"
release = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[0]
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # twins have one name in two trees: a link could lead to either
highlight_language = "none"  # blocks of formulas; code says its language
html_theme = "furo"
html_show_copyright = False
html_title = f"flowpp {release}"

myst_heading_anchors = 3  # a page may link to another's headings, as on a code host

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = [  # GPU, and the other libraries of the ready adapters: not needed to read
    "cupy", "zuko", "nflows", "normflows", "pyro", "flowjax", "jax", "equinox", "paramax",
    "pytest",
]  # fmt: skip
autodoc_default_options = {"members": True, "show-inheritance": True}

TREES = ("reference", "flowpp", "conformance")
LEFT_OUT = {
    "conformance.conftest": "pytest's own hook",
    "conformance.test_laws": "tests",
}
"""Modules without a page, and why."""


def modules(tree: str) -> list[str]:
    """Names of a tree's modules that have a page."""
    paths = sorted((ROOT / tree).rglob("*.py"))
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    names = [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"]
    return [name for name in sorted(names) if name not in LEFT_OUT]


def write_api_pages() -> None:
    """docs/api/: a page for each module, and one that lists them for each tree."""
    folder = Path(__file__).parent / "api"
    folder.mkdir(exist_ok=True)
    pages = {}
    for tree in TREES:
        names = modules(tree)
        toctree = "\n".join(f"   {name}" for name in names)
        pages[f"{tree}-modules"] = (
            f"{title('API of ' + tree)}\n.. toctree::\n   :maxdepth: 1\n\n{toctree}\n"
        )
        for name in names:
            pages[name] = f"{title(name)}\n.. automodule:: {name}\n"
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:  # an unchanged page is not built again
            path.write_text(text)


def title(name: str) -> str:
    """A heading."""
    return f"{name}\n{'=' * len(name)}\n"


def translate(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with plain-text maths; make them what Sphinx reads."""
    lines[:] = to_rst(lines)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    write_api_pages()
    # Before napoleon, which turns "Args:" and its like into fields.
    app.connect("autodoc-process-docstring", translate, priority=100)
