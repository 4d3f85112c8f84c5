"""Pieces of a learning-rate schedule. To add a kind, write its class and add it to `KINDS`.

A test asks for its form in the docstring of `schedule.py`, in the help of `training.schedule` in
`settings.py`, and in docs/guide.md. The class's name and fields are its form:
`Linear(until, factor)` is written "linear UNTIL FACTOR".
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import ClassVar, Literal

WHOLE_NUMBER = re.compile(r"\d{1,15}")
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

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse a step such as `50`, a percentage such as `12.5%`, or `end`.

        Raises:
            ValueError: Any other text.
        """
        if text == "end":
            return cls("end")
        if PERCENTAGE.fullmatch(text) and Decimal(text[:-1]) <= 100:
            # Via Decimal, so that 12.3% is the double nearest to 0.123.
            return cls("fraction", float(Decimal(text[:-1]).scaleb(-2)))
        if WHOLE_NUMBER.fullmatch(text):
            return cls("step", int(text))
        raise ValueError(f"UNTIL must be a step, a percentage or 'end', got {text!r}")

    def step(self, steps: int) -> float:
        """Return the position as a step of a run of `steps` steps."""
        if self.unit == "end":
            return steps + 1
        return self.value * steps if self.unit == "fraction" else self.value


class Piece(ABC):
    """One piece of a schedule; it starts with the factor that the piece before it ended with."""

    changes_factor: ClassVar[bool] = True
    """False if the factor stays, so that the end of a last piece does not matter."""
    depends_on_length: bool = False
    """Whether the piece's end depends on the number of steps of the run."""

    @classmethod
    def form(cls) -> str:
        """Return how the piece is written, such as "linear UNTIL FACTOR"."""
        return " ".join([cls.__name__.lower(), *(f.name.upper() for f in fields(cls))])  # type: ignore[arg-type]

    @classmethod
    def parse(cls, *words: str) -> Piece:
        """Return the piece with these values of its fields.

        Raises:
            ValueError: A value missing, surplus or out of range.
        """
        values = [
            Position.parse(word) if field.name == "until" else float(word)
            for field, word in zip(fields(cls), words, strict=True)  # type: ignore[arg-type]
        ]
        return cls(*values)

    def requirement(self, before: float) -> str | None:
        """Return what the piece requires of the factor before it; None if `before` fulfils it."""
        return None

    @abstractmethod
    def end_step(self, start: float, before: float, steps: int) -> float:
        """Return the step at which the piece ends.

        Args:
            start: Step at which it starts.
            before: Factor at its start.
            steps: Number of steps of the run.
        """

    @abstractmethod
    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Return the factor at a step in [start, end)."""

    @abstractmethod
    def end_factor(self, before: float) -> float:
        """Return the factor at the end of the piece."""


@dataclass(frozen=True)
class PieceUntil(Piece):
    """Piece whose end is given.

    Args:
        until: End of the piece.
    """

    until: Position

    @property
    def depends_on_length(self) -> bool:  # type: ignore[override]
        """Whether the end is a percentage or the end of the run."""
        return self.until.unit != "step"

    def end_step(self, start: float, before: float, steps: int) -> float:
        """Return the given end as a step."""
        return self.until.step(steps)


@dataclass(frozen=True)
class Constant(PieceUntil):
    """Keep the factor."""

    changes_factor: ClassVar[bool] = False

    def requirement(self, before: float) -> str | None:
        """Require a factor above 0."""
        return None if before > 0 else "a factor above 0 before it"

    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Return the factor before the piece."""
        return before

    def end_factor(self, before: float) -> float:
        """Return the factor before the piece."""
        return before


@dataclass(frozen=True)
class Linear(PieceUntil):
    """Change the factor linearly.

    Args:
        factor: Factor at the end.
    """

    factor: float

    def __post_init__(self) -> None:
        """Require a finite factor of at least 0."""
        if not 0 <= self.factor < math.inf:
            raise ValueError(f"FACTOR must be finite and at least 0, got {self.factor}")

    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Interpolate linearly."""
        return before + (self.factor - before) * ((step - start) / (end - start))

    def end_factor(self, before: float) -> float:
        """Return the given factor."""
        return self.factor


@dataclass(frozen=True)
class Cosine(Linear):
    """Change the factor along half a cosine."""

    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Interpolate along the cosine."""
        remaining = 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))
        return self.factor + (before - self.factor) * remaining


@dataclass(frozen=True)
class Exponential(Piece):
    """Multiply the factor by a ratio in each step until another factor is reached.

    Args:
        ratio: Ratio of successive factors.
        factor: Factor at the end.
    """

    ratio: float
    factor: float

    def __post_init__(self) -> None:
        """Require a ratio in (0, 1) and a factor above 0."""
        if not (0 < self.ratio < 1 and self.factor > 0):
            raise ValueError(
                f"RATIO must lie in (0, 1) and FACTOR be above 0, got {self.ratio}, {self.factor}"
            )

    def requirement(self, before: float) -> str | None:
        """Require a factor above 0 that can fall to the given one."""
        if before == 0:
            return "a factor above 0 before it"
        return None if self.factor <= before else f"at most the factor before it, {before:g}"

    def end_step(self, start: float, before: float, steps: int) -> float:
        """Return the step at which the given factor is reached."""
        return start + math.ceil(math.log(self.factor / before) / math.log(self.ratio))

    def inside(self, step: int, start: float, end: float, before: float) -> float:
        """Return the power of the ratio."""
        return before * self.ratio ** (step - start)

    def end_factor(self, before: float) -> float:
        """Return the given factor."""
        return self.factor


KINDS: dict[str, type[Piece]] = {
    kind.__name__.lower(): kind for kind in (Constant, Linear, Cosine, Exponential)
}
