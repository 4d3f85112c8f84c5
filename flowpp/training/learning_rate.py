"""Learning rate of each update."""

from __future__ import annotations

from flowpp.config import TrainingConfig
from flowpp.config.schedule import parse_schedule


def learning_rate(step: int, settings: TrainingConfig) -> float:
    """Return the learning rate of update number `step`, counted from 1."""
    schedule = parse_schedule(settings.schedule)
    return schedule.rate(step, peak=settings.learning_rate, steps=settings.steps)
