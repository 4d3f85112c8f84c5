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


def only_split(layout: str) -> str:
    """The one word of "columns 4" or "columns 4, columns 4": what a dequantizer's layout has.

    A context network sees the image laid out by this split, so another one, a squeeze or a
    factor-out would have it look at the wrong places.

    Raises:
        ValueError: the layout has anything but splits of one kind.
    """
    words = list(dict.fromkeys(stage.word for stage in parse_layout(layout)))
    if len(words) > 1 or words[0] in BARE:
        raise ValueError(
            "a dequantizer's layout needs splits of one kind alone, any of "
            f"{', '.join(f'{word} N' for word in COUNTED)}, got {layout!r}"
        )
    return words[0]


def _parse_stage(parts: list[str], layout: str) -> Stage:
    match parts:
        case [word] if word in BARE:
            return Stage(word)
        case [word, count] if word in COUNTED and count.isdecimal() and int(count) > 0:
            return Stage(word, int(count))
    needed = ", ".join([f"{word} N" for word in COUNTED] + list(BARE))
    raise ValueError(
        f"A layout needs words of {needed} between commas, got {' '.join(parts)!r} in {layout!r}"
    )
