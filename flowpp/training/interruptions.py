"""Reasons to save or to end training that do not depend on the step: signals and the time."""

from __future__ import annotations

import time

from flowpp.config import TrainingConfig
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.signals import DeferredSignals
from flowpp.training.state import TrainingState


class Interruptions:
    """Signals and clocks of one process; the processes have to agree on them.

    Args:
        state: State of the training, which knows its time.
        settings: Settings of the run.
        signals: Signals of this process.
        group: All processes.
    """

    def __init__(
        self,
        state: TrainingState,
        settings: TrainingConfig,
        signals: DeferredSignals,
        group: ProcessGroup,
    ) -> None:
        self.state, self.settings, self.signals, self.group = state, settings, signals, group
        self.saved()

    def saved(self) -> None:
        """Note that a checkpoint has been written."""
        self._saved_at = time.monotonic()

    def agreed(self) -> tuple[bool, bool, bool]:
        """Return whether, in any process, a signal came, a checkpoint is overdue, time is over."""
        signal, overdue, out_of_time = self.group.mean([float(reason) for reason in self._own()])
        return signal > 0, overdue > 0, out_of_time > 0

    def in_this_process(self) -> bool:
        """Return whether there is any; other processes may differ."""
        return any(self._own())

    def _own(self) -> tuple[bool, bool, bool]:
        settings = self.settings
        seconds = time.monotonic() - self._saved_at
        return (
            self.signals.received is not None,
            seconds > 60 * settings.checkpoint_minutes,
            settings.minutes is not None and self.state.elapsed() >= 60 * settings.minutes,
        )
