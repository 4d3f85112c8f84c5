"""Runs, checkpoints and evaluations with NaN: valid JSON, a reason, and an exit status."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from flowpp import evaluate
from flowpp import train as train_command
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.metrics import append_record
from flowpp.runs.run import Run
from flowpp.runtime.files import write_json
from flowpp.training.loop import train
from flowpp.training.result import Result


def strict(text):
    """Parse JSON; NaN and infinity, which Python accepts, are errors."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def flags(tiny_config):
    """Flags of a run whose second step sets enormous weights."""
    assert tiny_config.training.steps == 3
    return [
        "digits", "--model.flow.layout", "squeeze, channels 1", "--model.flow.filters", "4",
        "--model.flow.blocks", "1", "--model.dequantization", "uniform",
        "--training.batch-size", "8", "--training.init-batch-size", "8", "--training.steps", "2",
        "--training.schedule", "constant end", "--training.sample-count", "4",
        "--training.learning-rate", "1e30", "--training.device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def failed(flags, tmp_path_factory):
    """Run that ended in NaN, and what the command raised."""
    out = tmp_path_factory.mktemp("runs") / "failed"
    with pytest.raises(SystemExit) as stop:
        train_command.main([*flags, "--out", str(out)])
    return out, stop.value


def test_a_run_that_ends_in_nan_exits_with_the_reason(failed):
    out, stop = failed
    assert "bits/dim of the averaged weights are nan at step 2" in str(stop.code)
    assert "training.learning_rate below 1e+30" in str(stop.code)
    result = strict((out / "result.json").read_text())
    assert result["bits_per_dim"] is None and result["standard_error"] is None
    assert result["failure"] in str(stop.code)
    assert result["samples"] is None and not list((out / "samples").glob("step-*"))
    for file in ("config.json", "environment.json"):
        strict((out / file).read_text())
    for line in (out / "metrics.jsonl").read_text().splitlines():
        strict(line)


def test_resuming_it_fails_again(failed, capsys):
    out, stop = failed
    with pytest.raises(SystemExit) as again:
        train_command.main(["--resume", str(out)])
    assert again.value.code == stop.code


def test_its_evaluation_writes_a_receipt_with_the_reason_and_fails(failed, capsys):
    out, _ = failed
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(out), "--images", "4", "--importance-samples", "4"])
    assert stop.value.code.startswith("error: bits/dim must be finite, got nan with 1, nan with 4")
    (file,) = (out / "evaluations").iterdir()
    receipt = strict(file.read_text())
    assert receipt["failure"] in stop.value.code
    assert [bound["mean"] for bound in receipt["bounds"]] == [None, None]
    assert "nan +- nan" not in capsys.readouterr().out


def test_a_former_result_with_nan_is_read_as_a_failure(failed, capsys):
    out, _ = failed
    file = out / "result.json"
    values = {**json.loads(file.read_text()), "bits_per_dim": float("nan"), "failure": None}
    file.write_text(json.dumps(values))
    with pytest.raises(SystemExit, match="the held-out bits/dim are not finite"):
        train_command.main(["--resume", str(out)])


def test_written_json_has_no_nan(tmp_path):
    write_json(tmp_path / "file.json", {"a": [float("nan"), {"b": float("inf")}], "c": 1.5})
    assert strict((tmp_path / "file.json").read_text()) == {"a": [None, {"b": None}], "c": 1.5}
    append_record(tmp_path / "metrics.jsonl", {"step": 1, "grad_norm": float("inf")})
    assert strict((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "grad_norm": None}


def test_facts_with_nan_are_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        Checkpoint(1, {}, {}, facts={"seconds": float("nan")}).save(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("part", "prefix", "what"),
    [
        ("weights", "flow", "weights"),
        ("ema", "flow", "averaged weights"),
        ("state", "optimizer/m/", "training state"),
        ("state", "optimizer/v/", "training state"),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_checkpoint_with_nan_is_not_resumed_from(
    part, prefix, what, value, config, uninterrupted, tmp_path
):
    run = Run.create(tmp_path / "run", config, {})
    checkpoint = Run.open(uninterrupted).load_checkpoint()
    tensors = {name: tensor.clone() for name, tensor in getattr(checkpoint, part).items()}
    name = next(name for name in tensors if name.startswith(prefix))
    tensors[name].view(-1)[0] = value
    run.save(dataclasses.replace(checkpoint, step=3, **{part: tensors}))
    with pytest.raises(CheckpointError, match=f"^{what} must be finite, .* in {name} at step 3"):
        train(config, run.path, resume=True)


def test_a_result_without_samples_names_no_file(config, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no samples today")

    monkeypatch.setattr("flowpp.evaluation.sample_grids.sample", fail)
    result = train(config, tmp_path / "run")
    assert isinstance(result, Result) and result.samples is None
    assert result.failure is None and result.bits_per_dim is not None
