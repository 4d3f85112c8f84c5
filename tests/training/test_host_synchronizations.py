"""A step between two reads never waits for a CUDA device: shown on the CPU, by operation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from flowpp import dequantization
from flowpp.benchmark.synchronizations import count_host_synchronizations
from flowpp.bijectors import invertible_conv
from flowpp.config import presets
from flowpp.config.build import build_model, set_compute
from flowpp.data import ImageSet
from flowpp.data import load as load_images
from flowpp.kernels.backend import use_backend
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training import loop
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.optimizer import make_optimizer
from flowpp.training.state import TrainingState
from flowpp.training.step import TrainingStep


def narrow(config):
    """Return a cifar10 model with all its layers, but few and narrow networks."""
    small = {"filters": 8, "blocks": 1, "dropout": 0.2}
    model = dataclasses.replace(
        config.model,
        flow=dataclasses.replace(config.model.flow, **small),
        dequantizer=dataclasses.replace(config.model.dequantizer, **small),
        context=dataclasses.replace(config.model.context, filters=8, blocks=1),
    )
    return dataclasses.replace(config, model=model)


def settings_and_images(preset):
    config = presets.get(preset)
    if preset == "digits":
        return config, load_images(config.data)
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
    return narrow(config), ImageSet("random", images, images[:4], 256)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Let the device skip updates, and read no values in the model, as on a CUDA device."""
    for module in (dequantization, invertible_conv):
        monkeypatch.setattr(module, "may_read_values", lambda *_: False)
    start = loop.TrainingStep.__init__

    def init(self, *arguments):
        start(self, *arguments)
        self.skips_on_device = True

    monkeypatch.setattr(loop.TrainingStep, "__init__", init)
    monkeypatch.setattr(loop, "steps_between_reads", lambda *_: 100)


class Enough(Exception):
    """Raised after the counted steps."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("preset", ["digits", "cifar10"])
@pytest.mark.usefixtures("as_on_cuda")
def test_steps_between_two_reads_have_none(preset, precision, tmp_path, monkeypatch):
    config, images = settings_and_images(preset)
    settings = dataclasses.replace(
        config.training, batch_size=4, init_batch_size=8, accumulate=2, log_every=100,
        precision=precision, device="cpu", threads=1,
    )  # fmt: skip
    config = dataclasses.replace(config, training=settings)
    model = build_model(config.model, images.shape, images.levels)
    set_compute(model, precision=precision)

    def count(trainer):
        trainer.step()  # creates the optimizer's state
        with count_host_synchronizations() as in_steps:
            trainer.step()
            trainer.step()
        with count_host_synchronizations() as in_read:
            trainer.read()
        assert dict(in_steps) == {}
        assert in_read.total() == 1, dict(in_read)
        assert trainer.state.step == len(trainer.state.recent) == 3
        raise Enough

    monkeypatch.setattr(loop.Trainer, "run_steps", count)
    with use_backend("torch"), pytest.raises(Enough):  # as on a CUDA device, but for the mixture
        loop.train(config, tmp_path / "run", (images, model))


@pytest.mark.parametrize(("accumulate", "optimizer"), [(1, "adam"), (2, "adam"), (1, "muon")])
def test_a_step_runs_on_a_device_without_numbers(accumulate, optimizer, monkeypatch):
    """Reading a value of the meta device is an error."""
    config = presets.get("digits")
    settings = dataclasses.replace(config.training, accumulate=accumulate, optimizer=optimizer)
    model = build_model(config.model, (1, 8, 8), 17).to("meta")
    generator = torch.Generator()
    batches = ShuffledBatches(100, 4, generator)
    state = TrainingState(
        model,
        EMA(model, 0.9),
        make_optimizer(model, settings),
        batches,
        generator,
        torch.device("meta"),
    )
    step = TrainingStep(model, state, settings, SINGLE_PROCESS)
    step.skips_on_device = True
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *_, **__: None)  # has no meta kernel
    x, noise = torch.rand(2, 4, 1, 8, 8, device="meta")
    with use_backend("torch"):
        for _ in range(2):
            outcome = step(x, noise)
    assert outcome.is_meta and outcome.shape == (2,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        outcome.tolist()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x[0, 0]),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: torch.linalg.inv(x),
        lambda x: torch.tensor(1.0, device=x.device),
        lambda x: x.index_put((x > 0,), x[0, 0]),
    ],
)
def test_a_synchronization_is_counted(operation):
    x = torch.eye(2) + 1
    with count_host_synchronizations() as found:
        operation(x)
    assert found.total() >= 1


def test_copies_between_devices_are_counted_unless_they_do_not_wait():
    x = torch.ones(3)
    with count_host_synchronizations() as found:
        x.to("meta")
    assert found.total() == 1
    with count_host_synchronizations() as found:
        x.to("meta", non_blocking=True)
        x.double().add_(1).sum().clamp(min=0)
    assert dict(found) == {}
