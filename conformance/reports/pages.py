"""HTML pages from Jinja templates: self-contained files, readable without a network.

A page extends `base.html.jinja`, which embeds `base.css` and the page's own stylesheet.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


class Failing(str):
    """Text of a table cell that is highlighted as a failure."""


def render(package: str, template: str, **values: Any) -> str:
    """Render a template of `package`, or of this package, with autoescaping.

    Args:
        package: Name of the package whose folder `templates` is searched first.
        template: File name of the template.
        values: Variables of the template. A missing one is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("conformance.reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["unbroken"] = unbroken
    environment.tests["failing"] = lambda value: isinstance(value, Failing)
    environment.globals["stylesheet"] = lambda name: _source(environment, name)
    return environment.get_template(template).render(**values)


def unbroken(text: str) -> str:
    """Keep `1e-05` on one line: the hyphen of an exponent becomes a non-breaking one."""
    return re.sub(r"(?<=\de)-(?=\d)", "\u2011", text)


def _source(environment: Environment, name: str) -> Markup:
    """Return a file of the templates' folders unchanged."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])
