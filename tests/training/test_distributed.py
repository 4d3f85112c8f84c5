"""Training and evaluation in two processes agree with one."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from same_runs import same_checkpoint, same_state

from flowpp.evaluation import bound as evaluation
from flowpp.evaluation import importance
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.batches import NoisyImages, noise_generator
from flowpp.training.loop import train
from flowpp.training.setup import prepare
from two_processes import config

DRIVER = Path(__file__).parents[1] / "helpers" / "two_processes.py"
TOLERANCE = 1e-5
"""Relative bound on losses: the halves of a batch are summed in another order, in each step."""


def torchrun(*arguments, driver=DRIVER):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
            *map(str, (driver, *arguments)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(path):
    """Return training losses, gradient norms and held-out bits per dimension, by step."""
    records = Run.open(path).metrics()
    steps = [r for r in records if HELD_OUT not in r]
    return (
        [r["bits_per_dim"] for r in steps],
        [r["grad_norm"] for r in steps],
        [r[HELD_OUT] for r in records if HELD_OUT in r],
    )


def draw_the_noise_of_two(monkeypatch, settings):
    """Give one process the noise that two processes draw, each for its half of a batch."""
    draw = NoisyImages.draw
    ranks = [noise_generator(settings.seed, rank) for rank in range(2)]

    def draw_halves(self, indices, generator, **options):
        if len(indices) != settings.batch_size:  # the initialization
            return draw(self, indices, generator, **options)
        parts = [draw(self, half, own) for half, own in zip(indices.chunk(2), ranks, strict=True)]
        return tuple(map(torch.cat, zip(*parts, strict=True)))

    monkeypatch.setattr(NoisyImages, "draw", draw_halves)


def test_two_processes_have_the_losses_of_one(tmp_path, monkeypatch):
    two = tmp_path / "two"
    output = torchrun(two, 6, 0.0, "new", tmp_path / "tuned", 2, 0.0, two)
    draw_the_noise_of_two(monkeypatch, config(6, dropout=0.0).training)
    assert output.count("step 6/6") == 1  # only rank 0 prints
    result = train(config(6, dropout=0.0), tmp_path / "one")
    for both, one in zip(numbers(two), numbers(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(both, one, rtol=TOLERANCE)
    assert f'"bits_per_dim": {result.bits_per_dim:.4f}'[:-1] in output
    names = [sorted(p.name for p in (tmp_path / n).rglob("*.*")) for n in ("one", "two")]
    assert [n for n in names[0] if "tfevents" not in n] == [
        n for n in names[1] if "tfevents" not in n
    ]
    # Fine-tuning: both processes begin with the averaged weights of the first run.
    assert output.count(f"starting from the averaged weights of {two} after step 6") == 1
    first = Checkpoint.load(tmp_path / "tuned" / "checkpoints" / "step-00000000.safetensors")
    same = Run.open(two).load_checkpoint().ema
    assert all(torch.equal(first.weights[name], tensor) for name, tensor in same.items())
    monkeypatch.undo()
    draw_the_noise_of_two(monkeypatch, config(2, dropout=0.0).training)  # from its beginning
    train(config(2, dropout=0.0), tmp_path / "tuned-one", init_from=two)
    for both, one in zip(
        numbers(tmp_path / "tuned"), numbers(tmp_path / "tuned-one"), strict=True
    ):
        np.testing.assert_allclose(both, one, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "started", ["once", pytest.param("for each part", marks=pytest.mark.slow)]
)
def test_two_processes_resume_bit_for_bit(tmp_path, started):
    """Each process draws its own dropout and noise."""
    runs = [
        (tmp_path / "whole", 6, 0.2, "new"),
        (tmp_path / "parts", 4, 0.2, "new"),
        (tmp_path / "parts", 6, 0.2, "resume"),
    ]
    for together in [runs] if started == "once" else [[run] for run in runs]:
        torchrun(*itertools.chain(*together))
    one, other = (Run.open(tmp_path / name).load_checkpoint() for name in ("whole", "parts"))
    for kind in ("weights", "ema", "state"):
        for name, tensor in getattr(one, kind).items():
            assert torch.equal(tensor, getattr(other, kind)[name]), name
    assert one.state["random/torch"].shape[0] == 2
    for name in ("random/torch", "random/noise"):  # dropout, and the noise of its own rows
        assert not torch.equal(*one.state[name])


def test_two_processes_agree_on_a_non_finite_step_that_they_read_late(tmp_path):
    output = torchrun(tmp_path, driver=DRIVER.with_name("late_reads.py"))
    for step in (2, 5):  # the loss of rank 1 was not finite
        assert output.count(f"step {step}: the loss is nan") == 2  # runs; only rank 0 prints
    assert same_state(tmp_path / "100", tmp_path / "1")
    one, other = (sorted((tmp_path / n / "non-finite").glob("*")) for n in ("1", "100"))
    assert len(one) == len(other) == 2
    for file, late in zip(one, other, strict=True):
        kept = Checkpoint.load(file)
        assert kept.state["batch/x"].shape == (8, 1, 8, 8)  # of both processes
        same_checkpoint(kept, Checkpoint.load(late))


def test_a_batch_in_parts_has_the_losses_of_a_whole_one(tmp_path):
    train(config(4, dropout=0.0), tmp_path / "whole")
    train(config(4, dropout=0.0, accumulate=3), tmp_path / "parts")
    for parts, whole in zip(numbers(tmp_path / "parts"), numbers(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=TOLERANCE)


class Rank(ProcessGroup):
    """One rank of a group whose ranks run one after another in this process."""

    gathered: list[np.ndarray] = []

    def gather_array(self, array):
        self.gathered.append(array)
        return np.stack(self.gathered[-self.size :])


def test_shares_of_an_evaluation_are_the_whole_exactly(tiny_run, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", 16)
    opened = open_model(tiny_run[0])
    images, model = load_images(opened.config), opened.model
    test = images.test[:37]
    whole = evaluation.evaluate_bound(model, test, seeded_generator(0))
    Rank.gathered = [np.zeros((4, 37))] * 2
    for rank in range(3):
        shared = evaluation.evaluate_bound(model, test, seeded_generator(0), Rank(rank, 3))
    assert shared == whole
    whole = importance.importance_bounds(model, test, 5, batch=7)[5]
    Rank.gathered = []
    parts = [
        importance.importance_bounds(model, test, 5, batch=7, group=Recording(rank, 2))
        for rank in range(2)
    ]
    assert len(parts) == 2
    joined = np.logaddexp.reduce(Recording.last, axis=0)
    again = evaluation.Estimate.of(torch.from_numpy(-(joined - np.log(5)) / (64 * np.log(2))))
    assert again.count == whole.count == 37
    assert again.mean == pytest.approx(whole.mean, rel=1e-12)


class Recording(ProcessGroup):
    """Rank that records the array it gathers last."""

    last: list[np.ndarray] = []

    def gather_array(self, array):
        if self.rank >= len(self.last):
            self.last.append(array)
        self.last[self.rank] = array.copy()
        return array[None]


def test_batches_that_cannot_be_shared_are_refused():
    settings = config(1, dropout=0.0)
    with pytest.raises(ValueError, match="must be a multiple of the 3 processes, got 8"):
        prepare(settings, ProcessGroup(0, 3))
    many = dataclasses.replace(settings.training, accumulate=5)
    with pytest.raises(ValueError, match="accumulate must be at most the 4 images of one process"):
        prepare(dataclasses.replace(settings, training=many), ProcessGroup(1, 2))
