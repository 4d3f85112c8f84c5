"""Parser of layouts, the text description of a chain of couplings."""

from __future__ import annotations

from dataclasses import dataclass

from flowpp.config.mistakes import nearest

SPLITS = ("columns", "checkerboard", "channels")
RESHAPES = ("squeeze", "factor")
FORMAT = ", ".join([f"{word} N" for word in SPLITS] + list(RESHAPES))


@dataclass(frozen=True)
class Stage:
    """One item of a layout: `count` couplings over a split, a squeeze, or a factor-out."""

    word: str
    count: int = 0


def parse_layout(layout: str) -> tuple[Stage, ...]:
    """Parse a layout such as "columns 4, squeeze, channels 2".

    Raises:
        ValueError: An unknown word, or a count that is missing, superfluous or below 1.
    """
    return tuple(_parse_stage(item.split(), layout) for item in layout.split(","))


def only_split(layout: str) -> str:
    """Return the single split of a dequantizer's layout, such as "columns 4, columns 4".

    The context network gets the image laid out by this split, so a second split, a squeeze or a
    factor-out would misalign it with the noise.

    Raises:
        ValueError: A layout with anything but one kind of split.
    """
    words = list(dict.fromkeys(stage.word for stage in parse_layout(layout)))
    if len(words) > 1 or words[0] in RESHAPES:
        raise ValueError(
            "a dequantizer's layout must have one kind of split only, one of "
            f"{', '.join(f'{word} N' for word in SPLITS)}, got {layout!r}"
        )
    return words[0]


def _parse_stage(parts: list[str], layout: str) -> Stage:
    match parts:
        case [word] if word in RESHAPES:
            return Stage(word)
        case [word, count] if word in SPLITS and count.isdecimal() and int(count) > 0:
            return Stage(word, int(count))
    words = (*SPLITS, *RESHAPES)
    hint = nearest(parts[0], words) if parts and parts[0] not in words else ""
    raise ValueError(
        f"layout must be a comma-separated list of {FORMAT}, got {' '.join(parts)!r} in {layout!r}"
        f"{hint}"
    )
