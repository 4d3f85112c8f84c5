"""Bits per dimension of a trained model do not depend on the backend."""

from __future__ import annotations

import pytest
import torch

from flowpp import data
from flowpp.config import presets
from flowpp.config.build import build_model
from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import build
from flowpp.objective import bits_per_dim
from flowpp.training.initialization import initialize
from flowpp.training.optimizer import Adam

STEPS = 40
TOLERANCE = 1e-6
"""In bits per dimension."""


@pytest.fixture(scope="module")
def trained():
    preset = presets.get("digits")
    images = data.load(preset.data)
    generator = torch.Generator().manual_seed(0)
    model = build_model(preset.model, images.shape, images.levels, generator)
    train = torch.from_numpy(images.train).float()
    torch.manual_seed(0)
    noise = torch.randn(train.shape, generator=generator)
    initialize(model, train[:128], noise[:128])
    optimizer = Adam(model.train().parameters(), 1e-3)
    for begin in range(0, STEPS * 32, 32):
        batch = slice(begin % 1024, begin % 1024 + 32)
        optimizer.zero_grad()
        (-model.elbo(train[batch], noise[batch]).total.mean()).backward()
        optimizer.step()
    test = torch.from_numpy(images.test[:100]).float()
    return model.eval(), test, torch.randn(test.shape, generator=generator)


@pytest.mark.skipif(not build.is_available("mixture_logistic.cpp"), reason="no C++ compiler here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_per_dim_are_the_same_on_every_backend(trained, dtype):
    model, x, noise = trained
    model.to(dtype)
    result = {}
    for backend in ("torch", "cpu"):
        with use_backend(backend), torch.no_grad():
            total = model.elbo(x.to(dtype), noise.to(dtype)).total
        result[backend] = bits_per_dim(total, x[0].numel()).mean().item()
    assert result["torch"] < 2.9  # trained: independent pixels take 2.4, uniform ones 4.1
    assert abs(result["torch"] - result["cpu"]) < TOLERANCE
