"""Runs record what a rerun needs; a resumed run reports what changes its numbers."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from flowpp.runs.run import Run
from flowpp.runtime.determinism import deterministic_algorithms
from flowpp.training.loop import train
from flowpp.training.resume import CERTAIN, POSSIBLE


def changed(config, **settings):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **settings))


def test_deterministic_algorithms_end_with_the_block():
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), deterministic_algorithms(enabled=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    with deterministic_algorithms(enabled=False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_deterministic_run_is_recorded_and_has_the_bits_of_another(tiny_config, tmp_path):
    runs = [Run(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        train(changed(tiny_config, deterministic=True), run.path)
    one, two = (run.load_checkpoint() for run in runs)
    assert all(torch.equal(tensor, two.weights[name]) for name, tensor in one.weights.items())
    environment = json.loads((runs[0].path / "environment.json").read_text())
    assert environment["deterministic"]["algorithms"] is True
    assert environment["deterministic"]["cudnn_benchmark"] is False
    assert environment["deterministic"]["cublas_workspace"]


def test_a_rerun_from_what_is_recorded_has_the_same_bits(tiny_run, tmp_path):
    run = Run.open(tiny_run[0])
    environment = json.loads((run.path / "environment.json").read_text())
    assert {
        "python", "processor", "versions", "device", "tf32", "cpu", "kernels", "deterministic",
        "threads", "processes", "arguments", "seed", "data",
    } <= environment.keys()  # fmt: skip
    assert environment["seed"] == run.config().training.seed
    train(changed(run.config(), threads=environment["threads"]), tmp_path / "again")
    again = Run.open(tmp_path / "again")
    written = json.loads((again.path / "environment.json").read_text())
    assert written["data"] == environment["data"]
    for name, tensor in run.load_checkpoint().weights.items():
        assert torch.equal(tensor, again.load_checkpoint().weights[name]), name


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"learning_rate": 1e-4}, "training.learning_rate is 0.0001 and was 0.0003: " + CERTAIN),
        ({"max_grad_norm": 2.0}, "training.max_grad_norm is 2.0 and was 1.0: " + POSSIBLE),
        ({"deterministic": True}, "training.deterministic is True and was False: " + POSSIBLE),
        ({"log_every": 2}, None),
        ({}, None),
    ],
)
def test_differences_from_an_uninterrupted_run_are_reported(
    tiny_config, tiny_run, tmp_path, capsys, settings, note
):
    copy = shutil.copytree(tiny_run[0], tmp_path / "copy")
    train(changed(tiny_config, steps=4, **settings), copy, resume=True)
    notes = [line for line in capsys.readouterr().out.splitlines() if "bit-identical" in line]
    assert notes == ([] if note is None else [note])


def test_more_steps_are_reported_if_the_rate_depends_on_them(
    tiny_config, tiny_run, tmp_path, capsys
):
    copy = shutil.copytree(tiny_run[0], tmp_path / "copy")
    falling = changed(tiny_config, steps=4, schedule="warm-up 2, constant 50%, cosine end 0")
    train(falling, copy, resume=True)
    printed = capsys.readouterr().out
    assert "training.steps is 4 and was 3, and the learning rate depends on it" in printed
