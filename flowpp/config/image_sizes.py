"""Image sizes that fit a model's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpp.config.layout import parse_layout

if TYPE_CHECKING:
    from flowpp.config.data_sets import Shape
    from flowpp.config.settings import ModelConfig


def check_layouts(config: ModelConfig, shape: Shape, setting: str = "") -> None:
    """Check that a model's layouts divide the images' height and width.

    Args:
        config: Settings of the model.
        shape: (channels, height, width) of the images.
        setting: Setting that chooses the size, for the message.

    Raises:
        ValueError: They do not; the message names the nearest sizes that fit.
    """
    layouts = [config.flow.layout]
    if config.has_conditional_flow:
        layouts.append(config.dequantizer.layout)
    hint = f"for {setting} " * bool(setting)
    factors: list[tuple[int, ...]] = [divisors(layout) for layout in layouts]
    sides = dict(zip(("height", "width"), shape[1:], strict=True))
    if shape[1] == shape[2]:  # a size that fits both
        factors, sides = [(max(both),) for both in factors], {"size": shape[1]}
    for axis, (name, side) in enumerate(sides.items()):
        factor, layout = max((f[axis], text) for f, text in zip(factors, layouts, strict=True))
        if side % factor:
            smaller, larger = side // factor * factor, -(-side // factor) * factor
            nearest = f"{smaller} and {larger}" if smaller else f"{larger}"
            raise ValueError(
                f"image {name} must be a multiple of {factor} for the layout {layout!r}, "
                f"got {side}: {hint}the nearest that fit are {nearest}"
            )


def divisors(layout: str) -> tuple[int, int]:
    """Return the numbers that must divide an image's height and width.

    A squeeze halves both, and a split over columns or a checkerboard needs an even width.
    """
    scale, height, width = 1, 1, 1
    for stage in parse_layout(layout):
        if stage.word == "squeeze":
            scale *= 2
            height, width = max(height, scale), max(width, scale)
        elif stage.word in ("columns", "checkerboard"):
            width = max(width, 2 * scale)
    return height, width
