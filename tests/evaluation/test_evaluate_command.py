"""The command line: what it refuses before it computes, and a receipt that can be trusted."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from flowpp import evaluate, importance, train
from flowpp.checkpoint import Checkpoint
from flowpp.hashing import weights_hash
from flowpp.runs import Run

SMALL = [
    f"--model.{flow}.{setting}"
    for flow in ("flow", "dequantizer")
    for setting in ("layout=columns 1", "filters=4", "blocks=1", "components=2")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    train.main(["digits", *SMALL, "--training.steps", "2", "--out", str(out)])
    return out


@pytest.fixture
def copy(trained, tmp_path):
    """A run that a test may write into."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "-1"], "seed must be at least 0 and below 2^63, got -1"),
        (["--memory", "inf"], "positive number of megabytes, got inf"),
        (["--memory", "nan"], "positive number of megabytes, got nan"),
        (["--memory", "0"], "positive number of megabytes, got 0"),
        (["--out", "."], "out must be a file, got the folder ."),
    ],
)
def test_mistakes_show_before_anything_is_computed(copy, flags, message, capsys, monkeypatch):
    monkeypatch.setattr(importance, "importance_bounds", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(copy), *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_a_file_shows_before_anything_is_computed(copy, capsys, monkeypatch):
    monkeypatch.setattr(importance, "importance_bounds", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(copy), "--out", str(copy / "config.json" / "receipt.json")])
    assert stop.value.code == 2
    assert "config.json" in capsys.readouterr().err


def test_the_receipt_lies_in_the_run_and_is_strict_json(copy, capsys):
    """The standard error of a single image is no number, and JSON has none such."""
    evaluate.main([str(copy), "--images", "1", "--importance-samples", "5", "--memory", "16"])
    (file,) = (copy / "evaluations").glob("*.json")
    assert str(file) in capsys.readouterr().out

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    written = json.loads(file.read_text(), parse_constant=refuse)
    assert written["importance_samples"] == 5
    assert [bound["importance_samples"] for bound in written["bounds"]] == [1, 4, 5]
    assert all(bound["standard_error"] is None for bound in written["bounds"])
    assert written["memory_megabytes"] == 16 and written["batch"] >= 1
    assert written["data"]["evaluated"] == "the first 1 held-out images"
    assert written["environment"]["threads"] == torch.get_num_threads()
    assert written["seconds"] >= 0


def test_the_hash_is_of_the_weights_that_were_evaluated(copy, tmp_path, monkeypatch):
    """A newer checkpoint may appear while an evaluation runs for hours."""
    run, out = Run.open(copy), tmp_path / "receipt.json"
    before = run.checkpoint()
    used = {}
    compute = importance.importance_bounds

    def overtaken(model, *arguments, **options):
        used.update(model.state_dict())
        run.save(Checkpoint(before.step + 1, before.weights, before.weights))
        return compute(model, *arguments, **options)

    monkeypatch.setattr(importance, "importance_bounds", overtaken)
    evaluate.main([str(copy), "--images", "2", "--out", str(out)])
    written = json.loads(out.read_text())["weights"]
    assert written["step"] == before.step
    assert written["sha256"] == weights_hash(used)


def test_every_weight_and_its_place_enter_the_hash():
    ones, twos = torch.ones(2), torch.full((2,), 2.0)
    hashes = {
        weights_hash(tensors)
        for tensors in (
            {"a": ones, "b": twos}, {"a": twos, "b": ones}, {"a": ones}, {"a": ones.double()},
            {"a": ones[None]}, {"a": ones.bfloat16()}, {"a": torch.tensor(1.0)},
        )
    }  # fmt: skip
    assert len(hashes) == 7
    assert weights_hash({"a": ones, "b": twos}) == weights_hash({"b": twos, "a": ones})


def test_no_more_rows_at_once_than_the_batch(trained, monkeypatch):
    _, images, model = Run.open(trained).load()
    rows = []
    elbo = model.elbo

    def counted(x, noise):
        rows.append(len(x))
        return elbo(x, noise)

    monkeypatch.setattr(model, "elbo", counted)
    importance.importance_bounds(model, images.test[:3], 20, batch=7)
    assert max(rows) == 7 and sum(rows) == 3 * 20


def test_nothing_grows_with_the_number_of_samples(trained, monkeypatch):
    """One running sum an image: the largest array kept is as long as the images are many."""
    import tracemalloc

    _, images, model = Run.open(trained).load()
    monkeypatch.setattr(
        importance, "_log_weights", lambda model, images, pairs, seed: np.zeros(len(pairs))
    )

    def peak(samples: int) -> int:
        tracemalloc.start()
        try:
            importance.importance_bounds(model, images.test[:8], samples, batch=16)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(16)  # imports and caches
    few, many = peak(64), peak(16_384)
    assert many < few + 16_384  # bytes; one number for each sample and image would be a million


def test_the_bar_is_drawn_on_a_terminal_alone(trained, tmp_path, capsys, monkeypatch):
    import sys

    flags = [str(trained), "--images", "2", "--out", str(tmp_path / "receipt.json")]
    evaluate.main(flags)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate.main(flags)
    assert "evaluations" in capsys.readouterr().err


def test_a_mean_says_its_error():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    from flowpp.evaluation import Estimate

    estimate = Estimate.of(values)
    assert dataclasses.astuple(estimate) == pytest.approx(
        (2.5, np.std(values.numpy(), ddof=1) / 2, 4)
    )
    assert str(estimate) == "2.5000 +- 0.6455"
