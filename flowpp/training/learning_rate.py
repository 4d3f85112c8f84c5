"""Learning rate of each update."""

from __future__ import annotations

from flowpp.config import TrainingConfig
from flowpp.config.schedule import parse_schedule


def warm_up_note(settings: TrainingConfig) -> list[str]:
    """Return a line on a warm-up that is longer than the run, in which little is learned."""
    warm_up = parse_schedule(settings.schedule).warm_up
    if warm_up <= settings.steps:
        return []
    return [
        f"the learning rate only rises, to {settings.steps / warm_up:.1%} of its peak: the "
        f"warm-up of training.schedule takes {warm_up} steps, the run {settings.steps}"
    ]


def zero_rate_note(settings: TrainingConfig) -> list[str]:
    """Return a line on last steps whose learning rate is 0."""
    steps = settings.steps
    last = next((n for n in range(steps, 0, -1) if learning_rate(n, settings) > 0), 0)
    if last == steps:
        return []
    return [
        f"the learning rate is 0 after step {last:,} by training.schedule: the last "
        f"{steps - last:,} steps change no weights"
    ]


def learning_rate(step: int, settings: TrainingConfig) -> float:
    """Return the learning rate of update number `step`, counted from 1."""
    schedule = parse_schedule(settings.schedule)
    return schedule.rate(step, peak=settings.learning_rate, steps=settings.steps)
