"""The evaluate command: errors before the computation, and a complete receipt."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import flowpp
from flowpp import evaluate
from flowpp.evaluation import importance, per_class
from flowpp.evaluation.importance import importance_bounds
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run
from flowpp.runtime.hashing import weights_hash


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
def test_errors_come_before_the_computation(copy, flags, message, capsys, monkeypatch):
    monkeypatch.setattr(per_class, "importance_bounds", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(copy), *flags])
    assert stop.value.code == 2
    printed = capsys.readouterr().err.replace("│", " ")  # tyro wraps and frames its errors
    assert message in " ".join(printed.split())


def test_a_file_as_output_folder_is_refused_before_the_computation(copy, capsys, monkeypatch):
    monkeypatch.setattr(per_class, "importance_bounds", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(copy), "--out", str(copy / "config.json" / "receipt.json")])
    assert stop.value.code == 2
    assert "config.json" in capsys.readouterr().err


def test_the_receipt_is_in_the_run_and_is_strict_json(copy, capsys):
    """The standard error of a single image is NaN, which JSON does not have."""
    evaluate.main([str(copy), "--images", "1", "--importance-samples", "5", "--memory", "16"])
    (file,) = (copy / "evaluations").glob("*.json")
    assert str(file) in capsys.readouterr().out

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    written = json.loads(file.read_text(), parse_constant=refuse)
    assert written["importance_samples"] == 5
    assert [bound["importance_samples"] for bound in written["bounds"]] == [1, 4, 5]
    assert all(bound["standard_error"] is None for bound in written["bounds"])
    assert written["memory_megabytes"] == 16 and written["batch"] >= 1
    assert written["data"]["evaluated"] == "the first 1 held-out images"
    assert written["environment"]["threads"] == torch.get_num_threads()
    assert written["seconds"] >= 0


def test_receipts_of_the_same_second_are_all_kept(copy, monkeypatch):
    monkeypatch.setattr(evaluate, "_now", lambda: "20261127-060000")
    for seed in ("1", "2", "3"):
        evaluate.main([str(copy), "--images", "2", "--seed", seed])
    files = list((copy / "evaluations").glob("*.json"))
    assert {file.stem[15:] for file in files} == {"", "-2", "-3"}
    assert {json.loads(file.read_text())["environment"]["seed"] for file in files} == {1, 2, 3}


def test_the_hash_is_of_the_weights_that_were_evaluated(copy, tmp_path, monkeypatch):
    """A newer checkpoint may appear while an evaluation runs for hours."""
    run, out = Run.open(copy), tmp_path / "receipt.json"
    before = run.load_checkpoint()
    used = {}
    compute = per_class.importance_bounds

    def overtaken(model, *arguments, **options):
        used.update(model.state_dict())
        run.save(Checkpoint(before.step + 1, before.weights, before.weights))
        return compute(model, *arguments, **options)

    monkeypatch.setattr(per_class, "importance_bounds", overtaken)
    evaluate.main([str(copy), "--images", "2", "--out", str(out)])
    written = json.loads(out.read_text())["weights"]
    assert written["step"] == before.step
    assert written["sha256"] == weights_hash(used)


def test_the_hash_depends_on_every_weight_and_its_name():
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


def test_batches_have_at_most_the_requested_rows(trained, monkeypatch):
    opened = open_model(trained)
    images, model = load_images(opened.config), opened.model
    rows = []
    elbo = model.elbo

    def counted(x, noise):
        rows.append(len(x))
        return elbo(x, noise)

    monkeypatch.setattr(model, "elbo", counted)
    importance.importance_bounds(model, images.test[:3], 20, batch=7)
    assert max(rows) == 7 and sum(rows) == 3 * 20


def test_memory_does_not_grow_with_the_number_of_samples(trained, monkeypatch):
    """Only one running sum is kept per image."""
    import tracemalloc

    opened = open_model(trained)
    images, model = load_images(opened.config), opened.model
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
    assert many < few + 16_384  # bytes; a float64 for each sample and image would be a million


def test_the_progress_bar_is_drawn_on_terminals_only(trained, tmp_path, capsys, monkeypatch):
    import sys

    flags = [str(trained), "--images", "2", "--out", str(tmp_path / "receipt.json")]
    evaluate.main(flags)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate.main(flags)
    assert "evaluations" in capsys.readouterr().err


def test_estimates_have_a_standard_error():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    from flowpp.evaluation.bound import Estimate

    estimate = Estimate.of(values)
    assert dataclasses.astuple(estimate) == pytest.approx(
        (2.5, np.std(values.numpy(), ddof=1) / 2, 4)
    )
    assert str(estimate) == "2.5000 +- 0.6455"


def add_damaged_checkpoint(run):
    """Add a newer, truncated checkpoint; return its path and the step of the valid one."""
    whole = run.load_checkpoint()
    Checkpoint(whole.step + 1, whole.weights, whole.ema, {}, whole.facts).save(
        run.checkpoint_path(whole.step + 1)
    )
    newest = run.checkpoint_files()[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    return newest, whole.step


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(copy, tmp_path, capsys):
    newest, step = add_damaged_checkpoint(Run.open(copy))
    evaluate.main([str(copy), "--images", "2", "--out", str(tmp_path / "receipt.json")])
    printed = capsys.readouterr().out
    assert newest.name in printed and "going back to the one before" in printed
    assert json.loads((tmp_path / "receipt.json").read_text())["weights"]["step"] == step


def test_all_checkpoints_damaged(copy, capsys):
    for file in Run.open(copy).checkpoint_files():
        file.write_bytes(b"no")
    with pytest.raises(SystemExit):
        evaluate.main([str(copy)])
    assert "are damaged" in capsys.readouterr().err


def test_two_processes_give_the_same_result(copy, tmp_path):
    """Each draw has its own random stream, so the result does not depend on the processes."""
    flags = ["--images", "6", "--importance-samples", "5", "--memory", "1"]
    evaluate.main([str(copy), *flags, "--out", str(tmp_path / "one.json")])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
                "--standalone", "-m", "flowpp.evaluate"]  # fmt: skip
    done = subprocess.run(
        [*launcher, str(copy), *flags, "--out", str(tmp_path / "two.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 images, 2 processes" in done.stdout and done.stdout.count("receipt") == 1
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    for alone, shared in zip(one["bounds"], two["bounds"], strict=True):
        assert alone == pytest.approx(shared, rel=1e-6)


def test_the_number_of_training_is_that_of_evaluate(tiny_run, tmp_path):
    """Equal weights, images, seed and precision: one number, at the end of training and after."""
    run, _ = tiny_run
    result = json.loads((run / "result.json").read_text())
    out = tmp_path / "receipt.json"
    evaluate.main([str(run), "--out", str(out)])
    receipt = json.loads(out.read_text())
    assert receipt["environment"]["seed"] == Run.open(run).config().training.seed
    assert receipt["bounds"][0]["mean"] == pytest.approx(result["bits_per_dim"], abs=1e-6)
    assert receipt["bounds"][0]["standard_error"] == pytest.approx(
        result["standard_error"], abs=1e-6
    )
    evaluate.main([str(run), "--out", str(out), "--seed", "5"])
    other = json.loads(out.read_text())["bounds"][0]["mean"]
    assert abs(other - result["bits_per_dim"]) > 1e-6


def test_other_data_are_all_images_of_the_path(tiny_run, tmp_path, capsys):
    pixels = np.arange(9 * 64).reshape(9, 8, 8).astype(np.uint8) % 17
    np.save(tmp_path / "other.npy", pixels)
    out = tmp_path / "receipt.json"
    other = ["--data.path", str(tmp_path / "other.npy"), "--other-data"]
    evaluate.main([str(tiny_run[0]), *other, "--out", str(out)])
    printed = capsys.readouterr().out
    assert "on other, 9 images" in printed and "uniform" in printed
    assert "independent pixels" not in printed
    receipt = json.loads(out.read_text())
    assert receipt["data"]["count"] == 9 and "other data" in receipt["data"]["evaluated"]
    bound = importance_bounds(flowpp.load(tiny_run[0]).model, pixels[:, None], 1, seed=0)[1]
    assert receipt["bounds"][0]["mean"] == pytest.approx(bound.mean, abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--other-data"], "other_data needs --data.path"),
        (["--other-data", "--data.path", "x", "--fingerprint"], "the run's own images"),
        (["--other-data", "--data.path", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_mistakes_with_other_data(flags, message, tiny_run, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(tiny_run[0]), *flags])
    assert message in " ".join(capsys.readouterr().err.split())
