"""Warnings of an implementation, printed with the cell in which they occur."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def named_warnings(cell: str) -> Iterator[None]:
    """Print warnings in the body with the cell's name. Their filters are unchanged."""
    previous, printed = warnings.showwarning, set()

    def show(
        message: Any,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = f"{category.__name__}: {message} ({filename}:{lineno}), in {cell}"
        if text not in printed:  # whatever resets the filters shows a warning again
            printed.add(text)
            print(text, file=file or sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = previous
