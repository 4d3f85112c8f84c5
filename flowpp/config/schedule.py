"""Learning-rate schedules written as text.

A schedule is a comma-separated list of pieces, such as "warm-up 100, constant 50%, cosine end 0":

    warm-up STEPS              multiply everything by min(1, step / STEPS); first piece only
    constant UNTIL             keep the factor
    linear UNTIL FACTOR        change the factor linearly
    cosine UNTIL FACTOR        change the factor along half a cosine
    exponential RATIO FACTOR   multiply the factor by RATIO in each step until FACTOR is reached

Factors are multiples of `training.learning_rate`; the first piece starts at 1, and the last factor
is kept for the rest of the run. UNTIL is a step, a percentage of the run such as `50%`, or `end`,
one step after the last, so that a fall to 0 leaves the last update a positive rate.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

FORMS = (
    "warm-up STEPS",
    "constant UNTIL",
    "linear UNTIL FACTOR",
    "cosine UNTIL FACTOR",
    "exponential RATIO FACTOR",
)
STEP = re.compile(r"\d{1,15}")
PERCENTAGE = re.compile(r"\d{1,3}(\.\d+)?%")


@dataclass(frozen=True)
class Position:
    """A position in a run: a step, a fraction of the run, or its end.

    Args:
        unit: "end" lies one step after the last.
        value: Step or fraction; unused for "end".
    """

    unit: Literal["step", "fraction", "end"]
    value: float = 0

    def step(self, steps: int) -> float:
        """Return the position as a step of a run of `steps` steps."""
        if self.unit == "end":
            return steps + 1
        return self.value * steps if self.unit == "fraction" else self.value


@dataclass(frozen=True)
class Piece:
    """One piece of a schedule.

    Args:
        text: The piece as written.
        kind: Shape of the curve.
        factor: Factor at the end of the piece; None to keep the one before it.
        until: End of the piece; None for "exponential", whose ratio determines it.
        ratio: Ratio of successive factors, for "exponential".
    """

    text: str
    kind: Literal["constant", "linear", "cosine", "exponential"]
    factor: float | None = None
    until: Position | None = None
    ratio: float = math.nan

    def end(self, start: float, before: float, steps: int) -> float:
        """Return the step at which the piece ends.

        Args:
            start: Step at which it starts.
            before: Factor at its start.
            steps: Number of steps of the run.
        """
        if self.until is not None:
            return self.until.step(steps)
        assert self.factor is not None
        return start + math.ceil(math.log(self.factor / before) / math.log(self.ratio))

    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Return the factor at a step in [start, end)."""
        if self.factor is None:
            return before
        if self.kind == "exponential":
            return before * self.ratio ** (step - start)
        if self.kind == "cosine":
            remaining = 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))
            return self.factor + (before - self.factor) * remaining
        return before + (self.factor - before) * ((step - start) / (end - start))


@dataclass(frozen=True)
class Schedule:
    """A parsed schedule.

    Args:
        warm_up: Number of steps over which the rate rises linearly from 0; 1 for no warm-up.
        pieces: The other pieces, in order.
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
            end = piece.end(start, factor, steps)
            if step < end:
                return piece.inside(step, start, end, factor)
            start = max(start, end)
            factor = factor if piece.factor is None else piece.factor
        return factor

    @property
    def depends_on_length(self) -> bool:
        """Whether the rate of a given step depends on the length of the run."""
        moving = [i for i, piece in enumerate(self.pieces) if piece.kind != "constant"]
        last = moving[-1] if moving else -1
        return any(p.until and p.until.unit != "step" for p in self.pieces[: last + 1])


@lru_cache
def parse_schedule(text: str) -> Schedule:
    """Parse a schedule.

    Raises:
        ValueError: A malformed piece, or one that cannot follow the pieces before it; the message
            names it.
    """
    items = [" ".join(item.split()) for item in text.split(",")]
    warm_up = 1
    if items[0].startswith("warm-up "):
        item = items.pop(0)
        steps = item.removeprefix("warm-up ")
        if not STEP.fullmatch(steps) or int(steps) < 1:
            raise _error("a warm-up of at least 1 step", item, text)
        warm_up = int(steps)
    pieces = tuple(_parse_piece(item, text) for item in items)
    _check_order(pieces, text)
    return Schedule(warm_up, pieces)


def _parse_piece(item: str, text: str) -> Piece:
    if item.startswith("warm-up"):
        raise _error("warm-up STEPS as its first piece only", item, text)
    try:
        piece = _match_piece(item)
    except ValueError:
        piece = None
    if piece is None:
        raise _error(f"pieces of the form {', '.join(FORMS)}", item, text)
    return piece


def _match_piece(item: str) -> Piece | None:
    match item.split():
        case ["constant", until]:
            return Piece(item, "constant", None, _parse_position(until))
        case ["linear", until, factor] if 0 <= float(factor) < math.inf:
            return Piece(item, "linear", float(factor), _parse_position(until))
        case ["cosine", until, factor] if 0 <= float(factor) < math.inf:
            return Piece(item, "cosine", float(factor), _parse_position(until))
        case ["exponential", ratio, factor] if 0 < float(ratio) < 1 and float(factor) > 0:
            return Piece(item, "exponential", float(factor), ratio=float(ratio))
    return None


def _parse_position(text: str) -> Position:
    if text == "end":
        return Position("end")
    if PERCENTAGE.fullmatch(text) and Decimal(text[:-1]) <= 100:
        # Via Decimal, so that 12.3% is the double nearest to 0.123.
        return Position("fraction", float(Decimal(text[:-1]).scaleb(-2)))
    if STEP.fullmatch(text):
        return Position("step", int(text))
    raise ValueError(f"UNTIL must be a step, a percentage or 'end', got {text!r}")


def _check_order(pieces: tuple[Piece, ...], text: str) -> None:
    """Check each piece against those before it, as far as this does not depend on the run."""
    last = {"step": 0.0, "fraction": 0.0}
    start: float | None = 0.0  # in steps; None after a percentage
    factor = 1.0
    for index, piece in enumerate(pieces):
        if index and (until := pieces[index - 1].until) and until.unit == "end":
            raise _error("no piece after one that lasts until the end", piece.text, text)
        if factor == 0 and piece.kind in ("constant", "exponential"):
            raise _error("a factor above 0 before it", piece.text, text)
        if piece.until is None:
            assert piece.factor is not None
            if piece.factor > factor:
                raise _error(f"at most the factor before it, {factor:g}", piece.text, text)
            start = None if start is None else piece.end(start, factor, 0)
            last["step"] = last["step"] if start is None else start
        elif piece.until.unit != "end":
            unit, value = piece.until.unit, piece.until.value
            if value <= last[unit]:
                former = f"{last[unit]:.0f}" if unit == "step" else f"{last[unit]:.0%}"
                raise _error(f"an end after {former}", piece.text, text)
            last[unit] = value
            start = value if unit == "step" else None
        factor = factor if piece.factor is None else piece.factor


def _error(needed: str, item: str, text: str) -> ValueError:
    return ValueError(f"training.schedule must have {needed}, got {item!r} in {text!r}")
