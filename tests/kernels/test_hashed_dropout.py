"""Dropout of compiled blocks: masks by a hash of positions and keys."""

from __future__ import annotations

import math

import pytest
import torch

from flowpp.conditioner import (
    Block,
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    compiled,
    conditioner,
)
from flowpp.conditioner.hashed_dropout import draw_keys, hashed_dropout

COUNT = 1 << 18


def masks(rate, number):
    torch.manual_seed(0)
    keys = draw_keys(number, device=torch.device("cpu"))
    ones = torch.ones(COUNT)
    return torch.stack([hashed_dropout(ones, rate, k) > 0 for k in keys])


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_each_number_is_dropped_with_the_rate(rate):
    """Within five standard deviations, for all numbers and for every residue of the position."""
    kept = masks(rate, 8).double()
    for period in (1, 2, 24, 96, 192):
        rows = kept[:, : COUNT // period * period].reshape(8, -1, period)
        error = math.sqrt(rate * (1 - rate) / rows.shape[1])
        assert ((rows.mean(1) - (1 - rate)).abs() < 5 * error).all()


@pytest.mark.parametrize("distance", [1, 2, 64, 96, 192, 1 << 12, 1 << 16])
def test_masks_are_independent(distance):
    """Neither of another position, nor of another key, is there a correlation."""
    kept = masks(0.2, 8).double()
    deviations = (kept - 0.8) / math.sqrt(0.8 * 0.2)
    limit = 5.5 / math.sqrt(COUNT - distance)
    for one in range(8):
        for other in range(one, 8):
            products = deviations[one, distance:] * deviations[other, :-distance]
            assert abs(products.mean()) < limit
            if other > one:
                assert abs((deviations[one] * deviations[other]).mean()) < limit


def test_masks_of_many_keys_are_independent():
    """Of 2,000 pairs of masks, none agrees more often or less often than chance lets it."""
    rate, count = 0.5, 1 << 12
    torch.manual_seed(0)
    keys = draw_keys(64, device=torch.device("cpu"))
    ones = torch.ones(count)
    kept = torch.stack([2 * (hashed_dropout(ones, rate, k) > 0).double() - 1 for k in keys])
    correlations = (kept @ kept.T / count).fill_diagonal_(0)
    assert correlations.abs().max() < 5.5 / math.sqrt(count)
    assert correlations.square().mean() * count == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_expected_value_and_the_gradient(dtype):
    x = torch.full((4, COUNT // 4), 3.0, dtype=dtype, requires_grad=True)
    y = hashed_dropout(x, 0.25, torch.tensor([1, 2], dtype=torch.int32))
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.dtype == dtype
    assert set(y.unique().tolist()) == {0.0, 4.0}
    assert torch.equal(grad, (y != 0) * torch.tensor(1 / 0.75, dtype=dtype))
    assert abs(y.double().mean() - 3) < 5 * 4 * math.sqrt(0.25 * 0.75 / COUNT)


@pytest.fixture
def network(monkeypatch):
    """A network in the form that is compiled on CUDA devices, without a compiler."""
    monkeypatch.setattr(conditioner, "CHANNELS_LAST", ("cpu",))
    monkeypatch.setattr(compiled, "_compiled", lambda: compiled.apply_block)
    torch.manual_seed(0)

    def make(rate):
        blocks = [
            Block(
                GatedConv.create(4, dropout=rate), None, GatedAttention.create(4, 2, dropout=rate)
            )
            for _ in range(2)
        ]
        model = Conditioner(Conv2d.create(2, 4, 3), blocks, None, torch.randn(4, 8, 8)).train()
        model.compiled = True
        return model

    return make


def test_every_pass_of_a_network_has_masks_of_its_own(network):
    model, x = network(0.3), torch.randn(3, 2, 8, 8)
    torch.manual_seed(1)
    first, second = model(x), model(x)
    torch.manual_seed(1)
    assert torch.equal(model(x), first)
    assert not torch.allclose(first, second)


def test_a_network_without_dropout_draws_nothing(network):
    model = network(0.0)
    before = torch.get_rng_state()
    model(torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_each_place_of_each_block_has_masks_of_its_own(network, monkeypatch):
    """The keys of a pass are all different, and each is used once."""
    used = []
    by_strips = "flowpp.conditioner.block_by_strips.hashed_dropout"
    monkeypatch.setattr(by_strips, lambda x, rate, keys: used.append(tuple(keys.tolist())) or x)
    network(0.3)(torch.randn(3, 2, 8, 8))
    assert len(used) == len(set(used)) == 4


def test_gradients_of_a_block_follow_the_masks(network):
    """By central differences in float64, with the same keys."""
    model = network(0.3).double()
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True)

    def value(x):
        torch.manual_seed(1)
        return model(x).square().sum()

    (grad,) = torch.autograd.grad(value(x), x)
    direction = torch.randn_like(x)
    step = 1e-6
    slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    torch.testing.assert_close((grad * direction).sum(), slope, rtol=1e-6, atol=0)


def test_tensors_of_more_numbers_than_hashes_are_refused():
    large = torch.zeros(()).expand(2**16, 2**15 + 1)
    with pytest.raises(ValueError, match=r"at most 2147483648 numbers .* \(65536, 32769\)"):
        hashed_dropout(large, 0.1, draw_keys(device=torch.device("cpu")))
