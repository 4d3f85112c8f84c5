"""Non-finite steps are skipped, counted and kept, and finally end the run with their cause."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flowpp.bijectors import Chain, InvertibleConv
from flowpp.model import FlowPlusPlus
from flowpp.root_finding import RootError
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.training import loop, non_finite, setup, step
from flowpp.training.setup import prepare


def corrupt_steps(monkeypatch, steps):
    """Make a weight NaN during the given steps."""
    compute, count = step.accumulate_gradients, 0

    def corrupt(model, *arguments):
        nonlocal count
        count += 1
        weight = next(p for p in model.flow.parameters())
        kept = weight.detach().clone()
        if count in steps:
            weight.data.fill_(torch.nan)
        loss = compute(model, *arguments)
        weight.data.copy_(kept)
        return loss

    monkeypatch.setattr(step, "accumulate_gradients", corrupt)


def test_a_non_finite_step_is_skipped_counted_and_kept(config, tmp_path, monkeypatch):
    corrupt_steps(monkeypatch, {2, 5})
    loop.train(config, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.load_checkpoint().facts["skipped"] == 2
    assert run.metrics()[-2]["skipped"] == 2
    kept = sorted(p.name for p in (run.path / "non-finite").iterdir())
    assert kept == ["step-00000002.safetensors", "step-00000005.safetensors"]
    batch = Checkpoint.load(run.path / "non-finite" / kept[0]).state
    assert batch["batch/x"].shape == (50, 1, 8, 8) == batch["batch/noise"].shape
    assert all(torch.isfinite(t).all() for t in run.load_checkpoint().weights.values())


def test_too_many_in_a_row_end_the_run_with_the_cause(config, tmp_path, monkeypatch):
    def corrupt(model, *_):
        next(model.flow.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(setup, "initialize", corrupt)
    few = dataclasses.replace(config.training, max_non_finite=4)
    with pytest.raises(non_finite.NonFiniteError) as stop:
        loop.train(dataclasses.replace(config, training=few), tmp_path / "run")
    assert "step 4: the loss is nan" in str(stop.value)
    assert "the weight flow.bijectors.2." in str(stop.value)
    assert len(list((tmp_path / "run" / "non-finite").iterdir())) == non_finite.MAX_KEPT


def test_the_first_layer_that_is_not_finite_is_named(config):
    images, model = prepare(config)
    x = torch.from_numpy(images.train[:4]).float()
    noise = torch.randn(x.shape)
    assert "finite when it is repeated" in non_finite.find_cause(model, x, noise)
    name, layer = next(
        (n, m) for n, m in model.named_modules() if n.startswith("flow") and n.endswith("proj_in")
    )
    layer.weight.data.fill_(3e38)
    layer.bias.data.fill_(3e38)
    found = non_finite.find_cause(model, x, noise)
    assert found == f"the first non-finite output is that of {name} (Conv2d)"
    assert all(p.grad is None for p in model.parameters())


def test_the_cause_is_sought_in_the_parts_of_the_step(config, tmp_path, monkeypatch):
    """A whole batch would need more memory than the step, and other dropout."""
    sizes, cause = [], non_finite.find_cause
    elbo = FlowPlusPlus.elbo

    def recorded(self, x, *arguments):
        sizes.append(len(x))
        return elbo(self, x, *arguments)

    def sought(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(FlowPlusPlus, "elbo", recorded)
            return cause(*arguments, **options)

    monkeypatch.setattr(non_finite, "find_cause", sought)
    corrupt_steps(monkeypatch, {1})
    settings = dataclasses.replace(
        config.training, batch_size=8, accumulate=3, max_non_finite=1, init_batch_size=8
    )
    with pytest.raises(non_finite.NonFiniteError, match="finite when it is repeated"):
        loop.train(dataclasses.replace(config, training=settings), tmp_path / "run")
    assert sizes == [3, 3, 2]


def test_a_gradient_that_is_not_finite_is_named(config):
    class Root(torch.nn.Module):
        """Function that is finite at 0, where its derivative is infinite."""

        def forward(self, x):
            return (x * 0).abs().sqrt() + x

    images, model = prepare(config)
    model.dequantizer.context_network.proj_in = torch.nn.Sequential(
        model.dequantizer.context_network.proj_in, Root()
    )
    x = torch.from_numpy(images.train[:4]).float()
    found = non_finite.find_cause(model, x, torch.randn(x.shape))
    assert "gradient" in found and "dequantizer.context_network.proj_in.0" in found


def test_gradients_whose_norm_overflows_are_named(config):
    """The sum of their squares exceeds float32, though each number is finite."""

    class Steep(torch.nn.Module):
        def forward(self, x):
            return x + (x - x.detach()) * 1e25

    images, model = prepare(config)
    model.dequantizer.context_network.proj_in = torch.nn.Sequential(
        model.dequantizer.context_network.proj_in, Steep()
    )
    x = torch.from_numpy(images.train[:4]).float()
    found = non_finite.find_cause(model, x, torch.randn(x.shape))
    assert found.startswith("all gradients are finite, but their norm overflows: the largest ")
    assert "in that of dequantizer.context_network.proj_in.0." in found
    assert all(p.grad is None for p in model.parameters())


def test_a_layer_that_refuses_its_weights_is_not_finite(config, tmp_path, monkeypatch):
    def corrupt(model, *_):
        layer = next(m for m in model.modules() if isinstance(m, InvertibleConv))
        layer.weight.data.fill_(torch.nan)

    monkeypatch.setattr(setup, "initialize", corrupt)
    few = dataclasses.replace(config.training, max_non_finite=2)
    with pytest.raises(non_finite.NonFiniteError, match=r"the weight .*\.weight is not finite"):
        loop.train(dataclasses.replace(config, training=few), tmp_path / "run")


def test_a_failing_inverse_does_not_end_the_run(config, uninterrupted, tmp_path, monkeypatch):
    def fail(*_):
        raise RootError("no root")

    with monkeypatch.context() as patch:
        patch.setattr(Chain, "inverse", fail)
        loop.train(config, tmp_path / "run")
    records = Run.open(tmp_path / "run").metrics()
    assert [r["round_trip_max"] for r in records if HELD_OUT in r] == [None] * 3
    paths = (tmp_path / "run", uninterrupted)
    one, other = (Run.open(path).load_checkpoint().weights for path in paths)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
