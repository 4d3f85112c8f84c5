"""The words in which a chain of couplings is described."""

from __future__ import annotations

from dataclasses import dataclass

COUNTED = ("columns", "checkerboard", "channels")
BARE = ("squeeze", "factor")


@dataclass(frozen=True)
class Stage:
    """One word of a layout: `count` couplings over a split, a squeeze or a factor-out."""

    word: str
    count: int = 0


def parse_layout(layout: str) -> tuple[Stage, ...]:
    """Read "columns 4, squeeze, channels 2" into stages.

    Raises:
        ValueError: an unknown word, or a count that is missing, surplus or below 1.
    """
    return tuple(_parse_stage(item.split(), layout) for item in layout.split(","))


def _parse_stage(parts: list[str], layout: str) -> Stage:
    match parts:
        case [word] if word in BARE:
            return Stage(word)
        case [word, count] if word in COUNTED and count.isdigit() and int(count) > 0:
            return Stage(word, int(count))
    needed = ", ".join([f"{word} N" for word in COUNTED] + list(BARE))
    raise ValueError(
        f"A layout needs words of {needed} between commas, got {' '.join(parts)!r} in {layout!r}"
    )
