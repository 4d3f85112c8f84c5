"""Optimizer state by parameter name, for this library's Adam and for any other optimizer."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from flowpp.runs.checkpoint import CheckpointError
from flowpp.runs.run import Run
from flowpp.training import loop, setup
from flowpp.training.optimizer import Adam
from flowpp.training.optimizer_state import NamedState

OPTIMIZERS = {
    "Adam": lambda params: Adam(params, lr=0.1),
    "torch's AdamW": lambda params: torch.optim.AdamW(params, lr=0.1, amsgrad=True),
    "torch's SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}


def parameters():
    """Return a matrix with columns contiguous in memory, a vector, and one without a gradient."""
    return {"a": torch.ones(3, 4).T, "b": torch.ones(2), "unused": torch.ones(1)}


def take_steps(optimizer, named, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for name in ("a", "b"):
            named[name].grad = torch.randn(named[name].shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_state_survives_a_round_trip_through_json_and_contiguous_tensors(make):
    one, other = parameters(), parameters()
    first, second = make(one.items()), make(other.items())
    take_steps(first, one, 3)
    state = NamedState(first).state_dict()
    assert all("unused" not in value for value in state.values() if isinstance(value, dict))
    stored = {
        key: {name: tensor.clone().contiguous() for name, tensor in value.items()}
        if isinstance(value, dict)
        else json.loads(json.dumps(value))
        for key, value in state.items()
    }
    for name, tensor in one.items():
        other[name].copy_(tensor)
    NamedState(second).load_state_dict(stored)
    for key, value in second.state[other["a"]].items():
        assert key == "step" or value.stride() == other["a"].stride()
    take_steps(first, one, 3, seed=1)
    take_steps(second, other, 3, seed=1)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_restored_optimizer_does_not_share_tensors():
    named = parameters()
    optimizer = Adam(named.items(), lr=0.1)
    take_steps(optimizer, named, 1)
    state = NamedState(optimizer).state_dict()
    NamedState(optimizer).load_state_dict(state)
    assert optimizer.state[named["b"]]["m"] is not state["m"]["b"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"m": {"a": torch.ones(4, 3), "b": torch.ones(3)}}, CheckpointError),
        ({"m": {"a": torch.ones(4, 3), "c": torch.ones(2)}}, CheckpointError),
        ({"m": {"a": torch.ones(4, 3)}}, CheckpointError),
        ({"powers": [0.9]}, ValueError),
        ({"powers": ["high", 0.9]}, ValueError),
        ({"powers": [0.9, float("nan")]}, ValueError),
        ({"powers": [0.9] * 3}, ValueError),
        ({"lr": float("inf")}, ValueError),
        ({"powers": None}, TypeError),
    ],
)
def test_state_of_another_model_is_refused(change, error):
    named = parameters()
    optimizer = Adam(named.items(), lr=0.1)
    take_steps(optimizer, named, 1)
    state = NamedState(optimizer).state_dict()
    with pytest.raises(error):
        NamedState(optimizer).load_state_dict({**state, **change})


def test_tensors_without_settings_are_refused():
    with pytest.raises(ValueError, match="settings must be some of .*, got none"):
        NamedState(Adam(parameters().items(), lr=0.1)).load_state_dict({"m": {}, "v": {}})


def with_steps(config, steps):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))


def adam(model, settings):
    return Adam(model.named_parameters(), settings.learning_rate)


def use_adamw(monkeypatch):
    def make(model, settings):
        return torch.optim.AdamW(model.named_parameters(), lr=settings.learning_rate)

    monkeypatch.setattr(setup, "make_optimizer", make)


@pytest.mark.parametrize("recorded", [True, False], ids=["this version", "0.1.0"])
def test_a_run_of_another_optimizer_is_refused(tiny_config, tmp_path, monkeypatch, recorded):
    with monkeypatch.context() as patch:
        patch.setattr(setup, "make_optimizer", adam)
        loop.train(with_steps(tiny_config, 2), tmp_path / "run")
    if not recorded:
        run = Run.open(tmp_path / "run")
        former = run.load_checkpoint()
        facts = {key: value for key, value in former.facts.items() if key != "optimizer"}
        run.save(dataclasses.replace(former, facts=facts))
    use_adamw(monkeypatch)
    message = r"step 2 was written with flowpp\.Adam, training uses torch\.AdamW$"
    with pytest.raises(CheckpointError, match=message):
        loop.train(with_steps(tiny_config, 4), tmp_path / "run", resume=True)


def test_a_run_with_another_optimizer_resumes_bit_for_bit(tiny_config, tmp_path, monkeypatch):
    config = lambda steps: with_steps(tiny_config, steps)  # noqa: E731
    use_adamw(monkeypatch)
    loop.train(config(4), tmp_path / "whole")
    loop.train(config(2), tmp_path / "parts")
    loop.train(config(4), tmp_path / "parts", resume=True)
    whole, parts = (Run.open(tmp_path / name).load_checkpoint() for name in ("whole", "parts"))
    assert any(name.startswith("optimizer/exp_avg_sq/") for name in whole.state)
    for kind in ("weights", "ema", "state"):
        for name, tensor in getattr(whole, kind).items():
            assert torch.equal(tensor, getattr(parts, kind)[name]), name
