"""Learning-rate schedules in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

WORDS = ("linear STEP RATE", "cosine STEP RATE", "hold STEP", "decay FACTOR RATE")


@dataclass(frozen=True)
class Piece:
    """One piece of a schedule: how the rate goes on from where the last piece left it.

    Args:
        word: "linear" or "cosine" to `rate` at step `number`; "hold" until step `number`; or
            "decay", which multiplies by `number` every step until `rate` is reached.
        number: a step, or a factor below 1.
        rate: the rate at the piece's end.
    """

    word: str
    number: float
    rate: float = math.nan


def parse_schedule(text: str) -> tuple[Piece, ...]:
    """Read "linear 5000 1e-3, hold 50000, decay 0.99995 3e-4" into pieces.

    Raises:
        ValueError: a word or number out of place, steps that do not rise, or a factor not in (0,
            1).
    """
    pieces = tuple(_parse_piece(item.split(), text) for item in text.split(","))
    steps = [piece.number for piece in pieces if piece.word != "decay"]
    if any(later <= earlier for earlier, later in zip([0.0, *steps], steps, strict=False)):
        raise ValueError(f"A schedule needs rising steps, got {text!r}")
    return pieces


def rate_at(pieces: tuple[Piece, ...], step: int) -> float:
    """The rate of update number `step`, counted from 1; after the last piece it stays.

    The first piece starts at rate 0 in step 0.
    """
    start, rate = 0.0, 0.0
    for piece in pieces:
        if piece.word == "decay":
            length = math.ceil(math.log(piece.rate / rate) / math.log(piece.number))
            if step < start + length:
                return rate * piece.number ** (step - start)
            start, rate = start + length, piece.rate
            continue
        if piece.word == "hold":
            start = piece.number
            if step <= start:
                return rate
            continue
        if step <= piece.number:
            part = (step - start) / (piece.number - start)
            if piece.word == "cosine":
                part = (1 - math.cos(math.pi * part)) / 2
            return rate + (piece.rate - rate) * part
        start, rate = piece.number, piece.rate
    return rate


def _parse_piece(parts: list[str], text: str) -> Piece:
    try:
        match parts:
            case ["linear" | "cosine" as word, step, rate] if float(rate) >= 0:
                return Piece(word, int(step), float(rate))
            case ["hold", step]:
                return Piece("hold", int(step))
            case ["decay", factor, rate] if 0 < float(factor) < 1 and float(rate) > 0:
                return Piece("decay", float(factor), float(rate))
    except ValueError:
        pass  # told below, with what was needed
    raise ValueError(
        f"A schedule needs words of {', '.join(WORDS)} between commas, got {' '.join(parts)!r} "
        f"in {text!r}"
    )
