"""Exponential moving average of the weights."""

from __future__ import annotations

import pytest
import torch

from flowpp.training.ema import EMA


def test_average_starts_at_the_weights_and_follows_them():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = EMA(model, 0.75)
    model.weight.data.fill_(3.0)
    ema.update()
    assert ema.average["weight"].item() == 0.75 * 1 + 0.25 * 3
    ema.update()
    assert ema.average["weight"].item() == 0.75 * 1.5 + 0.25 * 3


def test_applied_uses_the_average_and_restores_the_weights():
    model = torch.nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    average = model.weight.detach().clone()
    model.weight.data.add_(1.0)
    addresses = model.weight.data_ptr(), ema.average["weight"].data_ptr()
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert (model.weight.data_ptr(), ema.average["weight"].data_ptr()) == addresses
        assert torch.equal(model.weight, average)
        raise RuntimeError("inside")
    assert torch.equal(model.weight, average + 1)
    assert torch.equal(ema.average["weight"], average)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1.0"):
        EMA(torch.nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_device_skips_an_update_or_does_it(dtype):
    model = torch.nn.Linear(7, 5).to(dtype)
    one, other = EMA(model, 0.99), EMA(model, 0.99)
    model.weight.data.normal_()
    before = {name: average.clone() for name, average in one.average.items()}
    one.update(skip_if=torch.ones(()))
    assert all(torch.equal(average, before[name]) for name, average in one.average.items())
    one.update(skip_if=torch.zeros(()))
    other.update()
    weights = dict(model.named_parameters())
    for name, average in one.average.items():
        assert not torch.equal(average, before[name]) or name == "bias"
        largest = torch.maximum(weights[name].abs(), before[name].abs())
        assert (
            (average - other.average[name]).abs() <= 2 * torch.finfo(dtype).eps * largest
        ).all()
