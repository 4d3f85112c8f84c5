"""Sizes that fit a layout, and what is said of those that do not."""

from __future__ import annotations

import pytest
import torch

from flowpp.config import ContextConfig, FlowConfig, ModelConfig, presets
from flowpp.config.build import build_model
from flowpp.config.image_sizes import check_layouts, divisors

LAYOUTS = sorted(
    {preset.model.flow.layout for preset in presets.PRESETS.values()}
    | {"channels 1, squeeze, channels 1", "squeeze, squeeze, channels 1", "columns 1",
       "checkerboard 1, squeeze, channels 1, factor, checkerboard 1"}
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_fit_exactly_if_a_model_of_them_can_be_built(layout):
    flow = FlowConfig(layout=layout, filters=4, blocks=0, components=1, heads=1)
    config = ModelConfig(flow=flow, dequantization="uniform", context=ContextConfig(blocks=0))
    height, width = divisors(layout)
    for sides in [(height, width), (3 * height, 5 * width), (height, 2 * width)]:
        check_layouts(config, (4, *sides))
        with torch.device("meta"):
            build_model(config, (4, *sides), 256)
    too_small = [(height // 2, width)] * (height > 1) + [(height, width // 2)] * (width > 1)
    for sides in too_small:
        with pytest.raises(ValueError, match="image (height|width|size) must be a multiple of"):
            check_layouts(config, (4, *sides))
        with pytest.raises(ValueError), torch.device("meta"):
            build_model(config, (4, *sides), 256)


def test_the_nearest_sizes_are_named():
    model = presets.get("small").model
    assert divisors(model.flow.layout) == (4, 8)
    with pytest.raises(ValueError, match=r"height must be a multiple of 4 .* fit are 28 and 32$"):
        check_layouts(model, (3, 30, 32))
    with pytest.raises(ValueError, match=r"width must be a multiple of 8 .* fit are 8$"):
        check_layouts(model, (3, 32, 6))
    with pytest.raises(ValueError, match=r"size must be a multiple of 8 .* fit are 24 and 32$"):
        check_layouts(model, (3, 28, 28))
    check_layouts(model, (3, 28, 32))
