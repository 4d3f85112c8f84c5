"""Before training the blocks are compiled for the shapes that training then needs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flowpp.conditioner import conditioner
from flowpp.conditioner.compiled import apply_block
from flowpp.config.build import build_model
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training.compiled_blocks import compile_blocks
from flowpp.training.gradients import accumulate_gradients
from tiny import TINY

SHAPE, LEVELS = (1, 8, 8), 17


@pytest.mark.parametrize(("augment", "draws", "accumulate"), [(0, 1, 2), (2, 1, 1), (1, 3, 2)])
def test_no_block_is_compiled_in_a_step(augment, draws, accumulate, monkeypatch):
    shapes = set()

    def compiled(block, x, context, *others):
        shapes.add((x.shape, None if context is None else context.shape))
        return apply_block(block, x, context, *others)

    monkeypatch.setattr(conditioner, "compiled_block", compiled)
    settings = dataclasses.replace(
        TINY.training, compile="blocks", importance_samples=draws, accumulate=accumulate
    )
    model = build_model(dataclasses.replace(TINY.model, augment=augment), SHAPE, LEVELS)
    compile_blocks(model, SHAPE, settings, SINGLE_PROCESS, lambda line: None)
    expected = set(shapes)
    assert expected
    x = torch.zeros(settings.batch_size, *SHAPE)
    count = (settings.batch_size,) if draws == 1 else (settings.batch_size, draws)
    noise = model.draw_noise((*count, *SHAPE))
    accumulate_gradients(model, x, noise, accumulate)
    assert shapes == expected
