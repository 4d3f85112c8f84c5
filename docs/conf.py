"""Sphinx configuration: the pages of this folder, and the API from docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).parent))  # the two extensions of this folder

project = "flowpp"
author = "Flow++ dual library authors"
release = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[0]
language = "en"

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon",
    "sphinx.ext.viewcode", "api_pages", "docstrings",
]  # fmt: skip
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # a twin's name is ambiguous: it exists in two trees
highlight_language = "none"  # unmarked blocks are formulas; code blocks state their language
html_theme = "furo"
html_show_copyright = False
html_title = f"flowpp {release}"

myst_heading_anchors = 3  # links to headings of other pages, as on a code host

napoleon_use_ivar = True  # "Attributes:" as a list: autodoc describes the members themselves
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = [  # CuPy and the libraries of the adapters are not needed for the pages
    "cupy", "zuko", "nflows", "normflows", "pyro", "flowjax", "jax", "equinox", "paramax",
    "distrax", "tensorflow_probability", "FrEIA", "pytest",
]  # fmt: skip
autodoc_default_options = {"members": True, "show-inheritance": True}
