"""Progress bar and training throughput."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Progress bar with metrics on a terminal; plain lines elsewhere.

    Args:
        total: Number of steps.
        console: Output; standard output by default.
        done: Number of steps done already.
    """

    def __init__(self, total: int, console: Console | None = None, *, done: int = 0) -> None:
        self.console = console or Console()
        self.total = total
        self._bar: Bar | None = None
        if self.console.is_terminal:
            self._bar = Bar(
                BarColumn(bar_width=None),  # the width left by the other columns
                MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
                expand=True,
            )
            self._task = self._bar.add_task("training", total=total, completed=done, metrics="")

    def __enter__(self) -> Progress:
        """Start the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the bar and leave it on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def show(self, step: int, metrics: str) -> None:
        """Show metrics beside the bar, or print a line with them."""
        if self._bar is not None:
            self._bar.update(self._task, metrics=metrics)
        else:
            self.message(f"step {step}/{self.total}  {metrics}")

    def message(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Throughput:
    """Training steps per second, excluding evaluation time.

    Args:
        step: Number of steps done so far.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent inside the block."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def steps_per_second(self, step: int) -> float:
        """Return the rate since the last call, or since the start, and begin a new interval."""
        now = time.perf_counter()
        rate = (step - self._step) / (now - self._since)
        self._step, self._since = step, now
        return rate
