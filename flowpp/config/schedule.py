"""Learning-rate schedules written as text.

A schedule is a comma-separated list of pieces, such as "warm-up 100, constant 50%, cosine end 0":

    warm-up STEPS              multiply everything by min(1, step / STEPS); first piece only
    constant UNTIL             keep the factor
    linear UNTIL FACTOR        change the factor linearly
    cosine UNTIL FACTOR        change the factor along half a cosine
    exponential RATIO FACTOR   multiply the factor by RATIO in each step until FACTOR is reached

Factors are multiples of `training.learning_rate`; the first piece after the warm-up starts at step
0 with factor 1, during the warm-up, and the last factor is kept for the rest of the run. UNTIL is
a step, counted from the start of the run, a percentage of the run such as `50%`, or `end`, one
step after the last, so that a fall to 0 leaves the last update a positive rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flowpp.config.schedule_pieces import KINDS, WHOLE_NUMBER, Piece, PieceUntil

FORMS = ("warm-up STEPS", *(kind.form() for kind in KINDS.values()))


@dataclass(frozen=True)
class Schedule:
    """A parsed schedule.

    Args:
        warm_up: Number of steps over which the rate rises linearly from 0; 1 for no warm-up.
        pieces: The other pieces, in order; they too count from step 0.
    """

    warm_up: int
    pieces: tuple[Piece, ...]

    def rate(self, step: int, *, peak: float, steps: int) -> float:
        """Return the learning rate of update number `step`, counted from 1.

        Args:
            step: Number of the update.
            peak: Learning rate at factor 1.
            steps: Number of steps of the run.
        """
        return peak * min(1.0, step / self.warm_up) * self.factor(step, steps)

    def factor(self, step: int, steps: int) -> float:
        """Return the factor at `step`, without the warm-up.

        Steps and percentages may overlap in a short run: a piece that would end before the one
        in front of it takes no steps.
        """
        start, factor = 0.0, 1.0
        for piece in self.pieces:
            end = piece.end_step(start, factor, steps)
            if step < end:
                return piece.inside(step, start, end, factor)
            start, factor = max(start, end), piece.end_factor(factor)
        return factor

    @property
    def depends_on_length(self) -> bool:
        """Whether the rate of a given step depends on the length of the run."""
        changes = [index for index, piece in enumerate(self.pieces) if piece.changes_factor]
        up_to_last_change = self.pieces[: max(changes, default=-1) + 1]
        return any(piece.depends_on_length for piece in up_to_last_change)


@lru_cache
def parse_schedule(text: str) -> Schedule:
    """Parse a schedule.

    Raises:
        ValueError: A malformed piece, or one that cannot follow the pieces before it; the message
            names it.
    """
    items = [" ".join(item.split()) for item in text.split(",")]
    warm_up = 1
    word, _, number = items[0].partition(" ")
    if word == "warm-up":
        item = items.pop(0)
        if not WHOLE_NUMBER.fullmatch(number) or int(number) < 1:
            raise _error("a warm-up of 1 to 999999999999999 steps", item, text)
        warm_up = int(number)
    pieces = tuple(_parse_piece(item, text) for item in items)
    _check_factors(items, pieces, text)
    _check_ends(items, pieces, text)
    return Schedule(warm_up, pieces)


def _parse_piece(item: str, text: str) -> Piece:
    if item.partition(" ")[0] == "warm-up":
        raise _error("warm-up STEPS as its first piece only", item, text)
    try:
        kind, *words = item.split()
        return KINDS[kind].parse(*words)
    except (KeyError, ValueError) as error:
        raise _error(f"pieces of the form {', '.join(FORMS)}", item, text) from error


def _check_factors(items: Sequence[str], pieces: Sequence[Piece], text: str) -> None:
    factor = 1.0
    for item, piece in zip(items, pieces, strict=True):
        if needed := piece.requirement(factor):
            raise _error(needed, item, text)
        factor = piece.end_factor(factor)


def _check_ends(items: Sequence[str], pieces: Sequence[Piece], text: str) -> None:
    """Require increasing steps and increasing percentages: the run's length is not known here."""
    step, fraction, factor, ended = 0.0, 0.0, 1.0, False
    for item, piece in zip(items, pieces, strict=True):
        if ended:
            raise _error("no piece after one that lasts until the end", item, text)
        if not isinstance(piece, PieceUntil):
            # A lower bound, and the actual end unless a percentage precedes the piece.
            step = piece.end_step(step, factor, 0)
        elif piece.until.unit == "step":
            if piece.until.value <= step:
                raise _error(f"an end after {step:.0f}", item, text)
            step = piece.until.value
        elif piece.until.unit == "fraction":
            if piece.until.value <= fraction:
                raise _error(f"an end after {fraction:.0%}", item, text)
            fraction = piece.until.value
        else:
            ended = True
        factor = piece.end_factor(factor)


def _error(needed: str, item: str, text: str) -> ValueError:
    return ValueError(f"training.schedule must have {needed}, got {item!r} in {text!r}")
