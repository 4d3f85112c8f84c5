"""Losses read late on a CUDA device: no synchronization in between, and the same run."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from late_reads import NonFinite
from same_runs import same_checkpoint, same_state

from flowpp.benchmark.synchronizations import count_host_synchronizations
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint
from flowpp.training import batches, loop
from flowpp.training.setup import prepare
from tiny import TINY

pytestmark = pytest.mark.gpu


def config(**settings):
    """Settings of a run with dropout; a graph would repeat the injected numbers."""
    flow = dataclasses.replace(TINY.model.flow, dropout=0.2)
    training = dataclasses.replace(
        TINY.training, steps=9, log_every=4, evaluate_every=5, max_non_finite=4, device="cuda",
        deterministic=True, cuda_graph="off", compile="none", threads=None,
    )  # fmt: skip
    return dataclasses.replace(
        TINY,
        model=dataclasses.replace(TINY.model, flow=flow),
        training=dataclasses.replace(training, **settings),
    )


class Enough(Exception):
    """Raised after the counted steps."""


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_between_two_reads_have_no_synchronization(
    precision, resident, tmp_path, monkeypatch, capsys
):
    """Neither with the images on the device nor with images sent to it."""

    def count(trainer):
        for _ in range(2):  # kernels are compiled, and the optimizer's state is created
            trainer.step()
        with count_host_synchronizations() as in_steps:
            trainer.step()
            trainer.step()
        with count_host_synchronizations() as in_read:
            trainer.read()
        assert dict(in_steps) == {}
        assert in_read.total() >= 1
        assert trainer.state.step == len(trainer.state.recent) == 4
        raise Enough

    if not resident:
        monkeypatch.setattr(batches, "SHARE_OF_MEMORY", 0.0)
    monkeypatch.setattr(loop.Trainer, "run_steps", count)
    with pytest.raises(Enough):
        loop.train(config(accumulate=2, log_every=50, precision=precision), tmp_path / "run")
    assert ("the training images stay in the host's memory" in capsys.readouterr().out) != resident


@pytest.mark.hardware
def test_torch_reports_no_synchronization(tmp_path, monkeypatch):
    """Torch's own check of synchronizing calls raises an error in a step that has one."""

    def checked(trainer):
        for _ in range(2):
            trainer.step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step()
            trainer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        raise Enough

    monkeypatch.setattr(loop.Trainer, "run_steps", checked)
    with pytest.raises(Enough):
        loop.train(config(log_every=50), tmp_path / "run")


@pytest.mark.parametrize(
    "kinds",
    [{}, {1: "loss", 6: "gradient"}, {2: "loss", 3: "gradient", 4: "infinite", 9: "loss"}],
    ids=["none", "two", "in a row"],
)
def test_late_reads_change_nothing(kinds, tmp_path):
    for steps in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            if steps == 1:
                patch.setattr(loop, "steps_between_reads", lambda *_: 1)
            NonFinite(kinds).install(patch)
            images, model = prepare(config())
            few = ImageSet("few", images.train[:30], images.test[:8], images.levels)
            loop.train(config(init_batch_size=20), tmp_path / str(steps), (few, model))
    assert same_state(tmp_path / "4", tmp_path / "1")
    one, other = (sorted((tmp_path / n / "non-finite").glob("*")) for n in ("1", "4"))
    assert len(one) == len(other) == min(len(kinds), 3)
    for file, late in zip(one, other, strict=True):
        same_checkpoint(Checkpoint.load(file), Checkpoint.load(late))
