"""A progress bar on a terminal, plain lines in a pipe or a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows the step and a few numbers beside it.

    Args:
        total: number of steps.
        console: where to write; standard output by default.
        done: steps that are done already.
    """

    def __init__(self, total: int, console: Console | None = None, *, done: int = 0) -> None:
        self.console = console or Console()
        self.total = total
        self._bar: Bar | None = None
        if self.console.is_terminal:
            self._bar = Bar(
                BarColumn(bar_width=None),  # what the numbers leave
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}", markup=False),
                TimeRemainingColumn(),
                console=self.console,
                expand=True,
            )
            self._task = self._bar.add_task("training", total=total, completed=done, numbers="")

    def __enter__(self) -> Progress:
        """Start to draw."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def show(self, step: int, numbers: str) -> None:
        """Replace the numbers beside the bar, or print a line with them."""
        if self._bar is not None:
            self._bar.update(self._task, numbers=numbers)
        else:
            self.say(f"step {step}/{self.total}  {numbers}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Throughput:
    """Training steps per second, excluding evaluation time.

    Args:
        step: number of steps done so far.
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
