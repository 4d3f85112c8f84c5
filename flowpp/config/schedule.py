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
        ValueError: a word or number out of place, a rate that is not finite, a factor not in (0,
            1), a piece that does not end after the one before it, a beginning that holds or
            decays (the rate is 0 there), or a decay to more than the rate it begins with.
    """
    pieces = tuple(_parse_piece(item.split(), text) for item in text.split(","))
    step, rate = 0.0, 0.0
    for piece in pieces:
        if not rate and piece.word in ("hold", "decay"):
            raise ValueError(
                f"A schedule needs a rate above 0 before it can {piece.word}, got {text!r}"
            )
        if piece.word == "decay" and piece.rate > rate:
            raise ValueError(
                f"A schedule needs a decay to at most the rate before it, {rate}, "
                f"got {piece.rate} in {text!r}"
            )
        end, rate = _end(piece, step, rate)
        if piece.word != "decay" and end <= step:
            raise ValueError(
                f"A schedule needs rising steps, got {end:.0f} after {step:.0f} in {text!r}"
            )
        step = end
    return pieces


def rate_at(pieces: tuple[Piece, ...], step: int) -> float:
    """The rate of update number `step`, counted from 1; after the last piece it stays.

    The first piece starts at rate 0 in step 0.
    """
    start, rate = 0.0, 0.0
    for piece in pieces:
        end, reached = _end(piece, start, rate)
        if step < end:
            return _inside(piece, (start, rate), step)
        start, rate = end, reached
    return rate


def _end(piece: Piece, start: float, rate: float) -> tuple[float, float]:
    """Step and rate at which a piece ends that starts with these."""
    if piece.word == "hold":
        return piece.number, rate
    if piece.word == "decay":
        length = math.ceil(math.log(piece.rate / rate) / math.log(piece.number))
        return start + length, piece.rate
    return piece.number, piece.rate


def _inside(piece: Piece, begin: tuple[float, float], step: int) -> float:
    start, rate = begin
    if piece.word == "hold":
        return rate
    if piece.word == "decay":
        return rate * piece.number ** (step - start)
    part = (step - start) / (piece.number - start)
    if piece.word == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return rate + (piece.rate - rate) * part


def _parse_piece(parts: list[str], text: str) -> Piece:
    try:
        match parts:
            case ["linear" | "cosine" as word, step, rate] if 0 <= float(rate) < math.inf:
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
