"""Weights, gradients and averages in one vector: the same numbers by fewer operations."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from flowpp.conditioner import Conv2d
from flowpp.config import TrainingConfig
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training import adam as adam_module
from flowpp.training import one_vector
from flowpp.training import step as step_module
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.one_vector import (
    as_few,
    is_vector,
    laid_out,
    lay_out_gradients,
    lay_out_parameters,
)
from flowpp.training.optimizer import make_optimizer
from flowpp.training.optimizer_state import NamedState
from flowpp.training.state import TrainingState
from flowpp.training.step import TrainingStep

SETTINGS = TrainingConfig(steps=1, learning_rate=1e-2, max_grad_norm=1e30, ema_decay=0.5)


def tensors():
    torch.manual_seed(0)
    last = torch.channels_last
    return [
        torch.randn(3, 5),
        torch.randn(4, 2, 3, 3).contiguous(memory_format=last),
        torch.randn(7),
        torch.randn(6, 4, 1, 1),
        torch.randn(2, 3).T,
        torch.randn(()),
    ]


def test_copies_in_one_vector_have_values_shapes_and_strides():
    originals = tensors()
    copies = laid_out(originals)
    assert is_vector(copies)
    assert not is_vector(originals)
    for one, other in zip(copies, originals, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert one.data_ptr() % (4 * one_vector.ALIGNMENT) == copies[0].data_ptr() % (
            4 * one_vector.ALIGNMENT
        )
    (vector,) = as_few(copies)
    assert vector.norm() == pytest.approx(sum(t.square().sum() for t in originals) ** 0.5)
    vector.zero_()
    assert not any(t.any() for t in copies)


def test_tensors_elsewhere_are_no_vector():
    copies = laid_out(tensors())
    assert not is_vector(copies[::-1])
    assert not is_vector(copies[1:2])
    assert not is_vector([*copies[:2], copies[3]])
    assert not is_vector([copies[0][:, :4], *copies[1:]])
    assert len(as_few(copies[::-1])) == len(copies)
    with pytest.raises(ValueError, match=r"must be dense in memory, got shape \(2, 3\)"):
        laid_out([torch.zeros(3).expand(2, 3)])


class Model(nn.Module):
    """A stand-in for a model, with kernels in channels last."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(Conv2d.create(2, 3, 3), Conv2d.create(3, 5), nn.GELU())
        self.scale = nn.Parameter(torch.randn(5, 4, 4))
        self.layers[0].weight.data = self.layers[0].weight.data.contiguous(
            memory_format=torch.channels_last
        )

    def forward(self, x, noise):
        y = self.layers((x + noise).contiguous(memory_format=torch.channels_last)) * self.scale
        return SimpleNamespace(total=-y.square().flatten(1).sum(1).double())


def trained(*, vector, steps=3):
    model = Model()
    if vector:
        lay_out_parameters(model)
    state = TrainingState(
        model,
        EMA(model, SETTINGS.ema_decay),
        make_optimizer(model, SETTINGS),
        ShuffledBatches(8, 4, torch.Generator()),
        torch.Generator(),
        torch.device("cpu"),
    )
    step = TrainingStep(model, state, SETTINGS, SINGLE_PROCESS)
    generator = torch.Generator().manual_seed(1)
    outcomes = [
        step(*torch.randn(2, 4, 2, 4, 4, generator=generator).unbind()) for _ in range(steps)
    ]
    return state, torch.stack(outcomes)


def numbers(state):
    named = NamedState(state.optimizer).state_dict()
    groups = {
        "weight": state.model.state_dict(),
        "average": state.ema.state_dict(),
        "m": named["m"],
        "v": named["v"],
    }
    return {(kind, name): t for kind, group in groups.items() for name, t in group.items()}


def test_steps_give_the_same_numbers(monkeypatch):
    own, losses = trained(vector=False)
    adam = Mock(wraps=adam_module.adam)
    monkeypatch.setattr(adam_module, "adam", adam)
    other, other_losses = trained(vector=True)
    torch.testing.assert_close(losses, other_losses, rtol=1e-6, atol=0)
    expected, got = numbers(own), numbers(other)
    assert expected.keys() == got.keys()
    for name, value in expected.items():  # the ends of vectors are rounded otherwise
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6)
    assert all(len(call.args[0]) == 1 for call in adam.call_args_list)  # one operation for all
    assert adam.call_count == 3


def test_gradients_are_clipped_together():
    model = Model()
    lay_out_parameters(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    lay_out_gradients(model.parameters())
    grads = [p.grad for p in model.parameters()]
    assert is_vector(grads)
    assert [g.stride() for g in grads] == [p.stride() for p in model.parameters()]
    model.scale.grad = None
    lay_out_gradients(model.parameters())  # not of all parameters: left where they are
    assert model.layers[1].bias.grad is grads[model_names(model).index("layers.1.bias")]


def model_names(model):
    return [name for name, _ in model.named_parameters()]


def test_a_restored_state_becomes_a_vector_again():
    state, _ = trained(vector=True)
    named = NamedState(state.optimizer)
    before = copy.deepcopy(named.state_dict()["m"])
    named.load_state_dict(copy.deepcopy(named.state_dict()))
    assert not is_vector(list(named.state_dict()["m"].values()))
    for p in state.model.parameters():
        p.grad = torch.zeros_like(p)
    state.optimizer.step()
    after = named.state_dict()["m"]
    assert is_vector(list(after.values()))
    for name in before:
        torch.testing.assert_close(after[name], 0.9 * before[name])


def test_convolutions_are_timed_while_gradients_are_computed(monkeypatch):
    seen = []

    class Watching(Model):
        def forward(self, x, noise):
            seen.append(torch.backends.cudnn.benchmark)
            return super().forward(x, noise)

    monkeypatch.setitem(globals(), "Model", Watching)
    monkeypatch.setattr(step_module, "times_convolutions", lambda settings, device: True)
    trained(vector=False, steps=2)
    assert seen == [True, True]
    assert not torch.backends.cudnn.benchmark
