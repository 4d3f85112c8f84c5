"""Commands that take the name of a pretrained model, and the one that makes its file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import flowpp
from conformance.fingerprint.__main__ import main as compare_fingerprint
from flowpp import convert, evaluate, interpolate, plot, reconstruct, report, sample, score, train
from flowpp.runs import pretrained
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import load_images
from flowpp.runtime.hashing import weights_hash


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_run):
    """A folder with the pretrained model `tiny`, as the command makes it."""
    folder = tmp_path_factory.mktemp("pretrained")
    make(tiny_run[0], folder / "tiny.safetensors")
    return folder


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    """Run in an empty folder, with the package's models replaced by `tiny`."""
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(run, out, *flags):
    """Make a file of the run as the pretrained model `tiny`."""
    convert.main([str(run), "--pretrained", "tiny", "--out", str(out), *flags])


def refused(capsys, main, *arguments):
    """Return the one line with which a command refuses its arguments."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


# ---- commands


def test_evaluate_gives_the_receipt_s_figure(here, capsys):
    evaluate.main(["tiny"])
    (file,) = (here / "evaluations").glob("*.json")
    assert str(file.relative_to(here)) in capsys.readouterr().out
    result, recorded = json.loads(file.read_text()), flowpp.load("tiny").receipt
    for name in ("mean", "standard_error", "count"):
        assert result["bounds"][0][name] == pytest.approx(recorded["bounds"][0][name], rel=1e-6)
    assert result["weights"]["which"] == "moving average, networks rounded to bfloat16"
    assert result["data"]["sha256"] == recorded["data"]["sha256"]


def test_evaluate_refuses_other_data_as_the_run_s(here, folder, capsys, monkeypatch):
    stored = Checkpoint.load(folder / "tiny.safetensors")
    other = Checkpoint(3, stored.weights, {}, {}, {**stored.facts, "data_sha256": "0123" * 16})
    other.save(here / "other.safetensors")
    message = refused(capsys, evaluate.main, "other.safetensors")
    assert "other.safetensors was trained on data with hash 012301230123..." in message


def test_evaluate_says_that_a_file_does_not_record_its_data(here, folder, capsys):
    stored = Checkpoint.load(folder / "tiny.safetensors")
    facts = {name: stored.facts[name] for name in ("config", "image_shape", "levels")}
    Checkpoint(3, stored.weights, {}, {}, facts).save(here / "bare.safetensors")
    evaluate.main(["bare.safetensors", "--images", "4"])
    assert "bare.safetensors does not record its data: " in capsys.readouterr().out


def test_a_fingerprint_is_compared_with_the_reference(here, capsys):
    evaluate.main(["tiny", "--fingerprint", "--images", "2"])
    assert len(list((here / "fingerprints").glob("*.npz"))) == 1
    assert compare_fingerprint(["tiny"]) == 0
    assert "reference, NumPy float64" in capsys.readouterr().out
    shutil.copy(pretrained.file_of("tiny"), here / "tiny.safetensors")
    changed = Checkpoint.load(here / "tiny.safetensors")
    weights = {name: tensor * 2 for name, tensor in changed.weights.items()}
    Checkpoint(3, weights, {}, {}, changed.facts).save(here / "tiny.safetensors")
    assert compare_fingerprint(["tiny.safetensors"]) == 2
    assert "has no weights with hash" in capsys.readouterr().err


def test_images_are_written_to_the_current_folder(here, capsys):
    sample.main(["tiny", "--count", "4", "--temperature", "0.7"])
    reconstruct.main(["tiny", "--count", "4"])
    interpolate.main(["tiny", "--pairs", "1", "--steps", "3"])
    written = {file.name for file in here.glob("*.png")}
    assert written == {"seed-0-temperature-0.7.png", "reconstructed.png", "interpolated.png"}


def test_score_writes_beside_the_current_folder(here):
    np.save("four.npy", load_images(flowpp.load("tiny").config).test[:4])
    score.main(["tiny", "four.npy"])
    assert (here / "scores" / "four.csv").is_file()


@pytest.mark.parametrize(
    ("main", "arguments", "instead"),
    [
        (report.main, ["tiny"], "python -m flowpp.evaluate tiny"),
        (plot.main, ["tiny"], "python -m flowpp.sample tiny"),
        (train.main, ["--resume", "tiny"], "python -m flowpp.train --init-from tiny"),
    ],
)
def test_commands_on_runs_name_another_command(capsys, main, arguments, instead):
    message = refused(capsys, main, *arguments)
    assert message.startswith("error: RUN must be a run directory, for its ")
    assert message.endswith(instead)


def test_training_starts_from_a_name(here, capsys):
    train.main(["--init-from", "tiny", "--training.steps", "1", "--out", "tuned"])
    assert "starting from the averaged weights of tiny after step 3" in capsys.readouterr().out
    record = json.loads(Path("tuned/environment.json").read_text())["init_from"]
    assert record["path"] == "tiny" and record["step"] == 3
    weights = dict(flowpp.load("tiny").model.state_dict())
    assert record["sha256"] == weights_hash(weights)


def test_unknown_names_are_listed_by_commands(capsys):
    for main in (sample.main, evaluate.main):
        message = refused(capsys, main, "tinny")
        assert message.endswith("the package has tiny; did you mean 'tiny'?")
    message = refused(capsys, train.main, "--init-from", "nowhere")
    assert message.endswith("no pretrained model of that name; the package has tiny")


# ---- making a file


def test_the_file_is_made_again_without_a_change(tiny_run, folder, capsys):
    file = folder / "tiny.safetensors"
    before = file.read_bytes(), file.stat().st_mtime_ns
    make(tiny_run[0], file)
    assert "bytes, unchanged" in capsys.readouterr().out
    assert before == (file.read_bytes(), file.stat().st_mtime_ns)


def test_the_file_holds_the_rounded_average(tiny_run, folder, here):
    stored, model = Checkpoint.load(folder / "tiny.safetensors"), flowpp.load(tiny_run[0]).model
    for name, tensor in model.named_parameters():
        of_bijector = name.endswith((".gain", ".bias", ".weight")) and "network" not in name
        of_bijector = of_bijector and "conditioner" not in name
        expected = tensor if of_bijector else tensor.to(torch.bfloat16)
        assert torch.equal(stored.weights[name], expected), name
    convert.main([str(tiny_run[0]), "--out", "whole.safetensors"])
    whole = Checkpoint.load(here / "whole.safetensors")
    assert stored.facts["data_sha256"] == whole.facts["data_sha256"]
    assert whole.facts["weights"] == "moving average"


def test_a_damaged_or_other_file_is_replaced(tiny_run, folder, here):
    out = here / "tiny.safetensors"
    out.write_bytes((folder / "tiny.safetensors").read_bytes()[:-1])
    make(tiny_run[0], out, "--importance-samples", "2")
    bounds = Checkpoint.load(out).facts["receipt"]["bounds"]
    assert [bound["importance_samples"] for bound in bounds] == [1, 2]
    assert bounds[1]["mean"] < bounds[0]["mean"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pretrained", "Tiny", "--out", "x.safetensors"], "got 'Tiny'"),
        (["--pretrained", "tiny", "--out", "x.npz"], "from a run directory to a .safetensors"),
        (["--pretrained", "tiny", "--out", "x.safetensors", "--data.path", "x"], "data.path"),
        (["--pretrained", "t", "--out", "x.safetensors", "--importance-samples", "0"], "got 0"),
    ],
)
def test_mistakes_are_refused(tiny_run, capsys, flags, message):
    printed = refused(capsys, convert.main, tiny_run[0], *flags)
    assert message in re.sub(r"\s+", " ", printed)
    assert not Path("x.safetensors").exists()


def test_weights_that_are_not_finite_after_rounding_are_refused(tiny_run, here, capsys):
    """The largest numbers of float32 become infinite in bfloat16."""
    run = shutil.copytree(tiny_run[0], here / "run")
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    loaded = Checkpoint.load(newest)
    name = next(name for name in loaded.ema if "conditioner" in name)
    huge = torch.full_like(loaded.ema[name], 3.4e38)
    Checkpoint(
        loaded.step, loaded.weights, {**loaded.ema, name: huge}, loaded.state, loaded.facts
    ).save(newest)
    message = refused(capsys, convert.main, run, "--pretrained", "tiny", "--out", "x.safetensors")
    assert "finite" in message
