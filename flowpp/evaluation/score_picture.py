"""Picture of the images with the most and the fewest bits, each with a map of its pixels' bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.evaluation.figures import new_figure, save_figure

SIDE = 1.35
"""Width of an image in inches."""
NAME = 18
"""Characters of a name that fit above an image."""


def draw_scores(
    path: Path,
    title: str,
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]],
    levels: int,
) -> None:
    """Draw images, and below each the map of its bits, all maps in one colour scale.

    Args:
        path: PNG to write.
        title: Heading.
        rows: For each row: label, images (N, C, H, W), maps (N, H, W), and captions.
        levels: Number of values of a channel.
    """
    columns = max(len(images) for _, images, _, _ in rows)
    height, width = rows[0][1].shape[2:]
    tall = max(SIDE * min(1, height / width), 0.4)
    figure = new_figure(max(1.6 + SIDE * columns, 7), max(0.8 + (2 * tall + 0.35) * len(rows), 3))
    figure.suptitle(title, fontsize=10, parse_math=False)
    low, high = _colour_range(np.concatenate([maps for _, _, maps, _ in rows]))
    cells: Any = figure.subplots(2 * len(rows), columns, squeeze=False)
    for axes in cells.ravel():
        axes.axis("off")
    shown = None
    for number, (label, images, maps, captions) in enumerate(rows):
        upper, lower = cells[2 * number], cells[2 * number + 1]
        for column, (image, bits, caption) in enumerate(zip(images, maps, captions, strict=True)):
            _show(upper[column], image, levels)
            upper[column].set_title(caption, fontsize=7, parse_math=False)
            shown = lower[column].imshow(bits, cmap="magma", vmin=low, vmax=high)
        for axes, text in ((upper[0], label), (lower[0], "bits of\neach pixel")):
            axes.text(-0.08, 0.5, text, rotation=90, ha="right", va="center", fontsize=8,
                      transform=axes.transAxes)  # fmt: skip
    bar = figure.colorbar(shown, ax=cells, extend="both", shrink=0.6, pad=0.01)
    bar.set_label("bits of a pixel, all channels; they sum to the bits of the image", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save_figure(figure, path)


def caption(name: str, bits_per_dim: float) -> str:
    """Return a name, shortened at its beginning, and the score below it."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    short = name if len(name) <= NAME else f"\N{HORIZONTAL ELLIPSIS}{name[1 - NAME :]}"
    return f"{short}\n{bits_per_dim:.3f} bits/dim"


def _colour_range(maps: np.ndarray) -> tuple[float, float]:
    """Return the range of most maps, so that one unusual image does not darken all others."""
    highest = np.percentile(maps, 99, axis=(1, 2))
    low, high = float(np.percentile(maps, 1)), float(np.percentile(highest, 75))
    return low, max(high, low + 1e-6)


def _show(axes: Any, image: np.ndarray, levels: int) -> None:
    pixels = image.transpose(1, 2, 0) / (levels - 1)
    if pixels.shape[2] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(pixels, interpolation="nearest")
