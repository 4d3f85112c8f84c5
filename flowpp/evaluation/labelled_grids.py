"""Image grids with a title and labels, whose pixels are those of the grid alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowpp.evaluation.grids import grid, save_picture, white_of

MARGIN = 8
"""Pixels between a picture's parts."""
NARROWEST = 420
"""Pixels that a title is given, however small the grid is."""
SIZE, SMALL = 14, 12
"""Height of the font in pixels: titles, labels."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A grid of images with labels.

    Args:
        images: Integers (N, C, H, W), C = 1 or 3.
        label: Text above the grid.
        columns: Images in a row; by default the grid is square.
        rows_named: Text on the left of each row.
        columns_named: Text above each column.
    """

    images: np.ndarray
    label: str = ""
    columns: int | None = None
    rows_named: Sequence[str] = ()
    columns_named: Sequence[str] = ()


def save_labelled(path: Path, title: str, panels: Sequence[Panel], levels: int) -> None:
    """Write panels side by side to one PNG, under a title; pixels are as `save_grid` writes them.

    Without any text and with one panel, the picture is that of `save_grid`.

    Raises:
        ValueError: See `grid`.
    """
    white = white_of(panels[0].images, levels)
    drawn = [_drawn(panel, levels, white) for panel in panels]
    height = max(len(picture) for picture in drawn)
    parts = [  # grids of equal height lie side by side, whatever the height of their labels
        np.concatenate([_blank(height - len(p), p.shape[1], p, white), p]) for p in drawn
    ]
    gap = np.full((height, 2 * MARGIN, *parts[0].shape[2:]), white, parts[0].dtype)
    row = parts[0]
    for part in parts[1:]:
        row = np.concatenate([row, gap, part], axis=1)
    if title:
        width = max(row.shape[1], NARROWEST)
        head = _text(_wrapped(title, width - 2 * MARGIN), SIZE, width, row, white)
        row = np.concatenate([head, _widened(row, width, white)])
    save_picture(path, row)


def _drawn(panel: Panel, levels: int, white: int) -> np.ndarray:
    """Return a panel's grid with its labels above and on the left."""
    pixels = grid(panel.images, levels, columns=panel.columns, white=white)
    height, width = pixels.shape[:2]
    if panel.columns_named:
        step = (width - 2) / len(panel.columns_named)
        head = _blank(SMALL + MARGIN, width, pixels, white)
        for column, name in enumerate(panel.columns_named):
            _write(head, name, (2 + step * (column + 0.5), MARGIN // 2), "ma", white)
        pixels = np.concatenate([head, pixels])
    if panel.rows_named:
        step = (height - 2) / len(panel.rows_named)
        left = _blank(len(pixels), 2 * MARGIN + max(map(_width, panel.rows_named)), pixels, white)
        for row, name in enumerate(panel.rows_named):
            middle = len(pixels) - height + 2 + step * (row + 0.5)
            _write(left, name, (left.shape[1] - MARGIN, middle), "rm", white)
        pixels = np.concatenate([left, pixels], axis=1)
    if panel.label:
        needed = max(map(_width, panel.label.split())) + 2 * MARGIN
        pixels = _widened(pixels, max(needed, pixels.shape[1]), white)
        lines = _wrapped(panel.label, pixels.shape[1] - 2 * MARGIN, SMALL)
        pixels = np.concatenate([_text(lines, SMALL, pixels.shape[1], pixels, white), pixels])
    return pixels


def _text(lines: Sequence[str], size: int, width: int, like: np.ndarray, white: int) -> np.ndarray:
    """Return a strip with lines of text."""
    step = size + MARGIN // 2
    strip = _blank(step * len(lines) + MARGIN, width, like, white)
    for number, line in enumerate(lines):
        _write(strip, line, (MARGIN, MARGIN // 2 + step * number), "la", white, size)
    return strip


def _write(
    strip: np.ndarray, text: str, place: tuple[float, float], anchor: str, white: int,
    size: int = SMALL,
) -> None:  # fmt: skip
    """Write dark text into a white strip of any mode, in place."""
    drawing = Image.new("L", (strip.shape[1], strip.shape[0]), 0xFF)
    ImageDraw.Draw(drawing).text(place, text, fill=0, font=_font(size), anchor=anchor)
    ink = np.asarray(drawing, strip.dtype) * (white // 0xFF)
    np.minimum(strip, ink if strip.ndim == 2 else ink[..., None], out=strip)


def _wrapped(text: str, width: float, size: int = SIZE) -> list[str]:
    """Break a text into lines of at most `width` pixels, at blanks."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _width(text: str, size: int = SMALL) -> int:
    return round(_font(size).getlength(text))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of matplotlib's figures."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _blank(height: int, width: int, like: np.ndarray, white: int) -> np.ndarray:
    return np.full((height, width, *like.shape[2:]), white, like.dtype)


def _widened(picture: np.ndarray, width: int, white: int) -> np.ndarray:
    """Return a picture with white on its right."""
    beside = _blank(len(picture), width - picture.shape[1], picture, white)
    return np.concatenate([picture, beside], axis=1)
