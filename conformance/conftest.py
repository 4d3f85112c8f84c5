"""Options and the matrix of errors, for `pytest conformance` and `pytest --pyargs conformance`."""

from __future__ import annotations

from .pytest_plugin import (  # noqa: F401  (pytest finds them here)
    one_thread,
    pytest_addoption,
    pytest_terminal_summary,
)
