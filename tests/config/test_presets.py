"""Presets: parameter counts as released, JSON, and a training step at small size."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from flowpp.config import Config, ContextConfig, DataConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.presets import PRESETS
from flowpp.config.serialization import from_dict, to_dict
from flowpp.data import declared_shape, load
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.initialization import initialize
from flowpp.training.optimizer import Adam

UNUSED_64, UNUSED_128 = 786_432, 3_145_728  # unused positions in the released code
PARAMETERS = {
    "cifar10": 31_443_440,
    "cifar10-uniform": 32_324_408,
    "cifar10-affine": 32_045_708,
    "cifar10-no-attention": 31_443_440,
    "cifar10-plus": 31_443_440,
    "cifar16": 1_536_624,
    "realnvp16": 1_530_485,
    "glow16": 1_536_384,
    "cifar16-plus": 1_536_624,
    "cifar16-vflow": 1_528_204,  # nearest to cifar16 with whole filters
    "imagenet32": 168_955_724,
    "imagenet64": 73_489_960 - UNUSED_64,
    "imagenet64-5bit": 73_489_960 - UNUSED_64,
    "celeba64-5bit": 73_489_960 - UNUSED_64,
    "celeba64-3bit": 73_489_960 - UNUSED_64,
    "celeba128-5bit": 122_790_952 - UNUSED_128,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_match_the_released_code(name):
    config = PRESETS[name]
    with torch.device("meta"):
        model = build_model(config.model, *declared_shape(config.data))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_a_description_and_survives_json(name):
    config = PRESETS[name]
    assert config.preset == name
    assert len(config.description) > 40
    assert from_dict(Config, to_dict(config)) == config


@pytest.mark.parametrize("name", PRESETS)
def test_a_small_version_takes_a_step(name):
    """The same topology on small images: initialization, a bound, finite gradients everywhere."""
    config = PRESETS[name].model
    small = {"filters": 4, "blocks": 1, "components": 2, "heads": 2}
    layout = re.sub("channels (16|32)", "channels 1", config.flow.layout)
    config = replace(
        config,
        flow=replace(config.flow, **small, layout=layout),
        dequantizer=replace(config.dequantizer, **small),
        context=replace(config.context, filters=4, blocks=1),
    )
    size = 32 if name == "celeba128-5bit" else 16
    channels, levels = (1, 17) if name == "digits" else (3, 32)
    torch.manual_seed(0)
    model = build_model(config, (channels, size, size), levels)
    x = torch.randint(levels, (4, channels, size, size))
    initialize(model, x, model.draw_noise(x.shape))
    loss = -model.elbo(x, model.draw_noise(x.shape)).total.mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


SWITCHES = {
    "coupling": "affine",
    "attention": "maxout",
    "dropout": 0.2,
    "log_scale_floor": None,
    "weight_norm": True,
    "activate_last": True,
    "convolution": "joint",
    "act_norm": "channel",
    "layout": "checkerboard 2, squeeze, channels 2",
    "heads": 1,
    "components": 1,
}


OTHERS = ("no attention", "uniform dequantization", "truncated-normal dequantization", "augment")


@pytest.mark.parametrize("field", [*SWITCHES, *OTHERS])
def test_a_model_with_one_field_changed_trains(field):
    """Ten steps on one batch of real digits lower the bound's bits per dimension."""
    flow = FlowConfig(layout="columns 2, squeeze, channels 2", filters=8, blocks=1, components=3)
    flow = replace(flow, dropout=0.0)
    if field in SWITCHES:
        flow = replace(flow, **{field: SWITCHES[field]})
    if field == "no attention":
        flow = replace(flow, attention="none")
    kind, _, named = field.partition(" ")
    dequantization = kind if named == "dequantization" else "variational"
    split = flow.layout.split()[0]
    config = ModelConfig(
        flow,
        dequantization,
        replace(flow, layout=f"{split} 1"),
        ContextConfig(filters=8, blocks=1),
        augment=2 if field == "augment" else 0,
    )
    torch.manual_seed(0)
    model = build_model(config, (1, 8, 8), 17)
    x = torch.from_numpy(load(DataConfig(source="digits")).train[:64])
    initialize(model, x, model.draw_noise(x.shape))
    optimizer = Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(10):
        loss = -model.elbo(x, model.draw_noise(x.shape)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        clip_by_global_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 5


@pytest.mark.parametrize("name", ["cifar16", "cifar10"])
def test_the_recipe_changes_neither_the_model_nor_the_data(name):
    """It changes where the weights start, the optimizer and the rates, and nothing else."""
    released, plus = PRESETS[name], PRESETS[f"{name}-plus"]
    start = {"whiten": False, "spread": False}
    model = replace(
        plus.model,
        flow=replace(plus.model.flow, **start),
        dequantizer=replace(plus.model.dequantizer, **start),
    )
    assert model == released.model
    assert plus.data == released.data
    for field in ("batch_size", "max_grad_norm", "ema_decay", "precision"):
        assert getattr(plus.training, field) == getattr(released.training, field)
