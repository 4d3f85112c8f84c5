"""Progress bar of a long evaluation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn


@contextmanager
def progress_bar(total: int, *, silent: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if standard error is a terminal; yield a function that advances it."""
    if silent or not sys.stderr.isatty():
        yield lambda count: None
        return
    columns = (*Progress.get_default_columns(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluations", total=total)
        yield lambda count: bar.advance(task, count)
