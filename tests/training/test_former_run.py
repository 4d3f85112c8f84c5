"""An interrupted run of version 0.1.0 loads, evaluates and resumes.

`tests/data/runs/0.1.0` was stopped by SIGINT after step 26 of 40. Its `expected` folder holds the
last checkpoint and the metrics of the same version's uninterrupted run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import flowpp
from flowpp import evaluate, train
from flowpp.kernels.backend import backend_for
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.run import Run

STORED = Path(__file__).parents[1] / "data" / "runs" / "0.1.0"
TOLERANCE = 3e-4
"""Bound on |found - expected| / |expected| of a tensor, in the Euclidean norm.

The same bits come out on the machine that wrote the run. Two threads, or torch without AVX, change
a weight by up to 1.6e-5 and the other tensors by up to 4e-6 in these 14 steps."""
METRICS_TOLERANCE = 1e-5
"""Relative, for logged numbers; the same changes move them by up to 2e-7."""


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(STORED, tmp_path / "run", ignore=shutil.ignore_patterns("expected"))


def test_it_loads_with_its_settings(copy):
    for path in (copy, copy / "checkpoints" / "step-00000026.safetensors"):
        assert flowpp.load(path).step == 26
    training = Run.open(copy).config().training
    assert training.schedule == "warm-up 10, constant 50%, cosine end 0"
    assert training.learning_rate == 3e-3


def test_it_evaluates(copy, capsys):
    evaluate.main([str(copy), "--images", "32"])
    assert "one-sample bound" in capsys.readouterr().out


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The run, resumed from its step 26 to the end."""
    if backend_for(torch.empty(0)) != "cpu":
        pytest.skip("without the compiled kernels, dropout draws other random numbers")
    folder = tmp_path_factory.mktemp("runs") / "resumed"
    shutil.copytree(STORED, folder, ignore=shutil.ignore_patterns("expected"))
    train.main(["--resume", str(folder)])
    return Run.open(folder)


def test_it_resumes_to_the_state_of_the_uninterrupted_run(resumed):
    found = resumed.load_checkpoint()
    expected = Checkpoint.load(STORED / "expected" / "step-00000040.safetensors")
    assert found.step == expected.step == 40
    exact = ("optimizer_powers", "batches_begin", "skipped", "skipped_in_a_row", "random")
    assert [found.facts[name] for name in exact] == [expected.facts[name] for name in exact]
    for kind in ("weights", "ema", "state"):
        tensors = getattr(found, kind)
        assert tensors.keys() == getattr(expected, kind).keys()
        for name, tensor in getattr(expected, kind).items():
            if name.startswith(("random/", "batches/")):
                assert torch.equal(tensors[name], tensor), name
            else:
                error = torch.linalg.vector_norm(tensors[name] - tensor)
                assert error <= TOLERANCE * torch.linalg.vector_norm(tensor), name


def test_its_metrics_continue_as_in_the_uninterrupted_run(resumed):
    found = resumed.metrics()
    lines = (STORED / "expected" / "metrics.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    assert [record["step"] for record in found] == [record["step"] for record in expected]
    not_compared = {"round_trip_max", "round_trip_median", "images_per_second", "layer_log_det"}
    for record, other in zip(found, expected, strict=True):
        for name in other.keys() - not_compared:
            assert record[name] == pytest.approx(other[name], rel=METRICS_TOLERANCE), name
