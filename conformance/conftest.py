"""Options and the matrix of errors, for `pytest conformance` and `pytest --pyargs conformance`.

Needed where the package is not installed, so that nothing registers the plugin.
"""

from __future__ import annotations

import pytest

from . import pytest_plugin
from .pytest_plugin import one_thread, pytest_configure  # noqa: F401  (pytest finds them here)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add all options, by both names."""
    pytest_plugin.pytest_addoption(parser)
    pytest_plugin.add_short_names(parser)
