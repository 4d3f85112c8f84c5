"""Each kind of model in a CUDA graph: replayed steps have the bits of computed ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conditional_images import conditional_images

from flowpp.runtime.determinism import deterministic_algorithms
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training.captured_step import WARM_UP, CapturedStep, CudaGraph
from flowpp.training.setup import initial_state, prepare
from flowpp.training.step import TrainingStep
from tiny import TINY

pytestmark = pytest.mark.gpu

CASES = {
    "vflow of labels": ({"augment": 2}, {"label_dropout": 0.3, "optimizer": "muon"}, "labels"),
    "truncated normal of vectors": ({"dequantization": "truncated-normal"}, {}, "vectors"),
    "several draws with masks": ({}, {"importance_samples": 2, "accumulate": 2}, "mask"),
    "images in bfloat16": ({}, {"precision": "bfloat16"}, "images"),
}  # fmt: skip
"""Settings of the model and of training, and the kind of context."""


def trained(name, *, captured):
    """Return weights and their averages after some steps."""
    model, training, kind = CASES[name]
    settings = dataclasses.replace(
        TINY.training, device="cuda", init_batch_size=8, compile="none", **training
    )
    config = dataclasses.replace(
        TINY, model=dataclasses.replace(TINY.model, **model), training=settings
    )
    images, built = prepare(config, images=conditional_images(kind))
    state, inputs = initial_state(config, images, built, SINGLE_PROCESS, None)
    step = TrainingStep(built, state, settings, SINGLE_PROCESS)
    if captured:
        step = CapturedStep(step, CudaGraph(state.device), print, required=True)
    for number in range(1, WARM_UP + 3):
        for group in state.optimizer.param_groups:
            group["lr"] = 1e-3 * number
        outcome = step(*inputs.draw(next(state.batches), state.noise))
        assert outcome.isfinite().all()
    return {**state.model.state_dict(), **{f"ema {n}": t for n, t in state.ema.average.items()}}


@pytest.mark.parametrize("name", CASES)
def test_replayed_steps_have_the_same_bits(name):
    with deterministic_algorithms(enabled=True):
        plain, captured = (trained(name, captured=captured) for captured in (False, True))
    assert plain.keys() == captured.keys()
    for key, tensor in plain.items():
        assert torch.equal(tensor.cpu(), captured[key].cpu()), key
