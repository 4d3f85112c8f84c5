"""Losses read later than in each step: the same run, bit for bit, also if some are not finite.

As on a CUDA device, but on the CPU: updates are skipped by the flag on the device, and losses are
read every few steps.
"""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest
import torch
from late_reads import NonFinite, read_every
from same_runs import same_checkpoint, same_state

from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.run import Run
from flowpp.runtime.signals import TrainingInterrupted
from flowpp.training import loop, non_finite
from flowpp.training.setup import prepare


@pytest.fixture(scope="module")
def config(tiny_config):
    """Settings with dropout, three steps an epoch, and steps left over at every boundary."""
    settings = dataclasses.replace(
        tiny_config.training, steps=11, batch_size=8, init_batch_size=20, evaluate_every=5,
        log_every=4, checkpoint_every=8, max_non_finite=4, evaluation_images=8,
    )  # fmt: skip
    flow = dataclasses.replace(tiny_config.model.flow, dropout=0.3)
    model = dataclasses.replace(tiny_config.model, flow=flow)
    return dataclasses.replace(tiny_config, model=model, training=settings)


def train(config, out, steps, kinds, *, on_device=True, resume=False):
    """Train with losses read every few steps; return the number of steps computed."""
    with pytest.MonkeyPatch.context() as patch:
        read_every(patch, steps, on_device=on_device)
        injected = NonFinite(kinds)
        injected.install(patch)
        images, model = prepare(config)
        few = ImageSet("few", images.train[:30], images.test[:8], images.levels)
        loop.train(config, out, (few, model), resume=resume)
        return injected.computed


CASES = {
    "none": {},
    "loss": {2: "loss"},
    "gradient": {7: "gradient"},
    "first": {1: "infinite"},
    "in a row": {2: "gradient", 3: "loss", 4: "infinite"},
    "end of an epoch": {3: "loss"},
    "before an evaluation": {5: "loss"},
    "before a checkpoint": {8: "gradient"},
    "last": {11: "loss"},
    "many": dict.fromkeys((1, 2, 4, 6, 7, 10, 11), "loss"),
}


@pytest.mark.parametrize("kinds", CASES.values(), ids=CASES)
def test_late_reads_change_nothing(config, kinds, tmp_path):
    assert train(config, tmp_path / "each", 1, kinds) == 11
    seen_late = kinds.keys() - {4, 5, 8, 10, 11}  # log lines, checkpoints, evaluations
    for steps in (3, 100):
        path = tmp_path / f"every-{steps}"
        computed = train(config, path, steps, kinds)
        if steps == 100:  # steps after a non-finite one are computed in vain
            assert (computed > 11) == bool(seen_late)
        assert same_state(path, tmp_path / "each")
        files = [sorted((tmp_path / n / "non-finite").glob("*")) for n in ("each", path.name)]
        assert [f.name for f in files[0]] == [f.name for f in files[1]]
        assert len(files[0]) == min(len(kinds), non_finite.MAX_KEPT)
        for one, other in zip(*files, strict=True):
            same_checkpoint(Checkpoint.load(one), Checkpoint.load(other))


def test_updates_skipped_by_the_device_are_those_skipped_by_the_host(config, tmp_path):
    for name, on_device in (("host", False), ("device", True)):
        train(config, tmp_path / name, 1, CASES["many"], on_device=on_device)
    one, other = (Run.open(tmp_path / name).load_checkpoint() for name in ("host", "device"))
    averages = one.ema, other.ema
    same = dataclasses.replace
    same_checkpoint(same(one, ema={}), same(other, ema={}))
    for name, average in averages[0].items():  # rounded in another order
        torch.testing.assert_close(average, averages[1][name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_too_many_in_a_row_end_the_run_in_the_same_step(config, steps, tmp_path):
    kinds = dict.fromkeys((2, 5, 6, 7, 8, 9), "loss")
    with pytest.raises(non_finite.NonFiniteError, match="^step 8: .* after 4 skipped steps in a"):
        train(config, tmp_path / "run", steps, kinds)
    assert len(list((tmp_path / "run" / "non-finite").iterdir())) == non_finite.MAX_KEPT


@pytest.mark.parametrize("stop", [2, 3, 6])
def test_a_signal_is_followed_after_its_step(config, stop, tmp_path):
    kinds = {1: "loss", 3: "loss", 7: "gradient"}
    train(config, tmp_path / "whole", 100, kinds)
    with pytest.MonkeyPatch.context() as patch:
        draw = loop.Trainer._next_batch

        def interrupted(trainer):
            if trainer.state.step + 1 == stop and trainer.signals.received is None:
                os.kill(os.getpid(), signal.SIGTERM)
            return draw(trainer)

        patch.setattr(loop.Trainer, "_next_batch", interrupted)
        with pytest.raises(TrainingInterrupted):
            train(config, tmp_path / "parts", 100, kinds)
    assert Run.open(tmp_path / "parts").load_checkpoint().step <= stop
    train(config, tmp_path / "parts", 100, kinds, resume=True)
    assert same_state(tmp_path / "parts", tmp_path / "whole")
