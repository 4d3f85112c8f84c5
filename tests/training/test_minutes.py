"""`training.minutes` ends a run early, and more of them continue it."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from flowpp.config import TrainingConfig
from flowpp.runs.run import Run
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.signals import DeferredSignals
from flowpp.training import interruptions, state
from flowpp.training.interruptions import Interruptions
from flowpp.training.loop import Trainer, train
from flowpp.training.result import Result


class Clock:
    """Time of training: each step takes a minute."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(state.time, "perf_counter", lambda: self.now)
        step = Trainer.step

        def stepping(trainer):
            self.now += 60
            step(trainer)

        monkeypatch.setattr(Trainer, "step", stepping)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def with_minutes(config, minutes, **changes):
    training = dataclasses.replace(config.training, minutes=minutes, **changes)
    return dataclasses.replace(config, training=training)


def recorded(out):
    return json.loads((out / "result.json").read_text())


def test_training_ends_after_the_minutes_with_everything(config, clock, tmp_path, capsys):
    result = train(with_minutes(config, 4), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert (result.steps, result.stopped) == (4, "after 4 minutes at step 4 of 7")
    assert "stopped after 4 minutes at step 4 of 7" in capsys.readouterr().out
    assert recorded(run.path)["stopped"] == result.stopped
    assert run.load_checkpoint().step == 4 and run.sample_path(4).is_file()
    assert [r["step"] for r in run.metrics() if "held_out_bits_per_dim" in r] == [3, 4]
    assert math.isfinite(result.bits_per_dim)


def test_more_minutes_continue_bit_for_bit(config, uninterrupted, clock, tmp_path):
    out = tmp_path / "run"
    train(with_minutes(config, 2), out)
    again = train(with_minutes(config, 2), out, resume=True)
    assert (again.steps, clock.now) == (2, 120)  # finished: nothing to do
    more = train(with_minutes(config, 5), out, resume=True)
    assert more.stopped == "after 5 minutes at step 5 of 7"
    assert train(with_minutes(config, None), out, resume=True).stopped is None
    assert recorded(out)["steps"] == 7
    ours, theirs = (Run.open(path).load_checkpoint() for path in (out, uninterrupted))
    for kind in ("weights", "ema"):
        for name, tensor in getattr(theirs, kind).items():
            assert torch.equal(getattr(ours, kind)[name], tensor), name


def test_a_run_killed_before_its_result_does_no_further_step(config, clock, tmp_path):
    out = tmp_path / "run"
    train(with_minutes(config, 2), out)
    (out / "result.json").unlink()
    assert train(with_minutes(config, 2), out, resume=True).steps == 2


def test_enough_minutes_change_nothing(config, clock, tmp_path):
    result = train(with_minutes(config, 7), tmp_path / "run")
    assert (result.steps, result.stopped) == (7, None)


def test_former_results_have_no_reason():
    fields = {f.name for f in dataclasses.fields(Result)}
    values = dict.fromkeys(fields - {"stopped", "precision"}, 0)
    assert Result(**values).stopped is None


class Any(ProcessGroup):
    """One of two processes, of which the other is out of time."""

    def mean(self, values):
        return [(own + other) / 2 for own, other in zip(values, (0, 0, 1), strict=True)]


def test_all_processes_end_if_one_is_out_of_time(config, monkeypatch):
    class State:
        def elapsed(self):
            return 59.9

    settings = with_minutes(config, 1).training
    interrupted = Interruptions(State(), settings, DeferredSignals(), Any(0, 2))
    assert not interrupted.in_this_process()
    assert interrupted.agreed() == (False, False, True)
    monkeypatch.setattr(interruptions.time, "monotonic", lambda: 1e9)
    assert interrupted.agreed() == (False, True, True)


@pytest.mark.parametrize("minutes", [0, -1, math.inf, math.nan])
def test_minutes_must_be_positive(minutes):
    with pytest.raises(ValueError, match=r"training.minutes must be positive and finite"):
        TrainingConfig(minutes=minutes)
