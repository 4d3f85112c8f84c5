"""Invalid command lines: one clear message, status 2, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import flowpp
from documents import TINY_RUN
from flowpp import (
    classify,
    compress,
    data,
    evaluate,
    interpolate,
    reconstruct,
    report,
    sample,
    score,
    train,
)
from flowpp.root_finding import RootError
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runtime.image_tensors import NonFiniteImageError
from flowpp.trained_model import TrainedModel
from flowpp.training import setup
from flowpp.training.setup import prepare


def refused(capsys, main, *arguments):
    """Run a command that must exit with status 2, and return its output on one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    message = captured.out + captured.err
    assert "Traceback" not in message
    return " ".join(message.replace("│", " ").split())


def refused_in_one_line(capsys, main, *arguments):
    message = refused(capsys, main, *arguments)
    assert message.startswith("error: ") and "╭" not in message
    return message


def test_unknown_preset(capsys):
    message = refused_in_one_line(capsys, train.main, "digitz")
    assert message.startswith("error: preset must be one of digits, photos, ")
    assert message.endswith("got 'digitz'; did you mean 'digits'?")


def test_unknown_flag(capsys):
    message = refused(capsys, train.main, "--training.step", "3")
    assert "--training.step" in message and "--training.steps" in message


@pytest.mark.parametrize(
    ("flag", "pieces"),
    [
        (["--training.warmup_steps", "10"], "warm-up STEPS"),
        (["--training.warmup-steps=10"], "warm-up STEPS"),
        (["--training.decay_from", "0.5"], "constant UNTIL, cosine end 0"),
    ],
)
def test_a_former_flag_is_refused_with_its_replacement(capsys, flag, pieces):
    for arguments in (flag, ["photos", *flag], ["--resume", "auto", *flag]):
        message = refused_in_one_line(capsys, train.main, *arguments)
        assert "--training.schedule" in message and f"'{pieces}'" in message
        assert message.endswith(f"got {flag[0].partition('=')[0]}")


def test_value_of_wrong_type(capsys):
    message = refused(capsys, train.main, "--model.flow.filters", "many")
    assert "--model.flow.filters" in message and "many" in message


def test_value_out_of_range(capsys):
    message = refused(capsys, train.main, "--training.steps", "0")
    assert "training.steps must be at least 1, got 0" in message


def test_invalid_model(capsys, tmp_path):
    message = refused(
        capsys, train.main, "--model.flow.layout", "columns 1, squeese", "--out", tmp_path / "r"
    )
    assert "model.flow: layout must be" in message and "squeese" in message
    assert "did you mean 'squeeze'?" in message
    message = refused_in_one_line(
        capsys, train.main, "--model.flow.filters", "6", "--out", tmp_path / "r"
    )
    assert "heads that divide 6 filters, got 4" in message
    assert not (tmp_path / "r").exists()


def test_unknown_device(capsys, tmp_path):
    message = refused_in_one_line(
        capsys, train.main, "--training.device", "cdua", "--out", tmp_path / "r"
    )
    assert "device 'cdua' is not usable" in message
    for device in ("meta", "meta:0"):
        message = refused_in_one_line(
            capsys, train.main, "--training.device", device, "--out", tmp_path / "r"
        )
        assert f"device '{device}' is not usable: its tensors hold no numbers" in message


def test_missing_data(capsys, tmp_path):
    message = refused_in_one_line(capsys, train.main, "cifar10")
    assert "cifar10 needs data.path" in message and "got none" in message
    message = refused_in_one_line(
        capsys, train.main, "cifar10", "--data.path", tmp_path / "nowhere"
    )
    assert "nowhere does not exist" in message


def test_images_too_large_for_memory(capsys, tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError("Unable to allocate 8.19 TiB for an array")

    monkeypatch.setattr(data, "load", exhausted)
    message = refused_in_one_line(capsys, train.main, "--out", tmp_path / "r")
    assert "Unable to allocate 8.19 TiB" in message


def test_batch_larger_than_the_data(capsys):
    message = refused_in_one_line(capsys, train.main, "--training.batch_size", "1501")
    assert "batch_size must be at most the 1500 training images of digits, got 1501" in message


def test_run_directory_in_use(capsys, tmp_path):
    (tmp_path / "note.txt").touch()
    message = refused_in_one_line(capsys, train.main, "--out", tmp_path)
    assert "run directory must be new or empty" in message


def test_run_directory_that_cannot_be_created(capsys, tmp_path):
    (tmp_path / "file").touch()
    for out in ("/proc/x", tmp_path / "file" / "run"):
        message = refused_in_one_line(capsys, train.main, "--training.steps", "1", "--out", out)
        assert str(out) in message


@pytest.mark.parametrize("main", [evaluate.main, sample.main])
def test_bad_run(capsys, tmp_path, main):
    assert "no run directory at" in refused_in_one_line(capsys, main, tmp_path / "none")
    assert "it has no config.json" in refused_in_one_line(capsys, main, tmp_path)
    (tmp_path / "config.json").write_text('{"preset": "digits", "modell": {}}')
    assert "Config has no field ['modell']" in refused_in_one_line(capsys, main, tmp_path)
    (tmp_path / "config.json").write_text('{"preset": "dig')
    assert "is damaged or of another version" in refused_in_one_line(capsys, main, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "has no checkpoint yet" in refused_in_one_line(capsys, main, tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"flow": {"filters": "96"}}}')
    message = refused_in_one_line(capsys, main, tmp_path)
    assert "model.flow.filters must be int, got '96'" in message


def test_damaged_checkpoint(capsys, tmp_path, tiny_run):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run[0], copy)
    *earlier, newest = sorted((copy / "checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:1000])
    sample.main([str(copy), "--count", "1"])
    message = capsys.readouterr().err
    assert newest.name in message and "truncated or damaged" in message
    assert message.endswith("going back to the one before\n")
    with pytest.warns(UserWarning, match="going back to the one before"):
        assert flowpp.load(copy).step == Checkpoint.load(earlier[-1]).step
    for file in earlier:
        file.write_bytes(b"")
    assert "are damaged" in refused_in_one_line(capsys, sample.main, copy)


def test_counts_below_one(capsys, tiny_run):
    run = tiny_run[0]
    message = refused(capsys, evaluate.main, run, "--importance_samples", "0")
    assert "importance_samples must be at least 1, got 0" in message
    assert "images must be at least 1" in refused(capsys, evaluate.main, run, "--images", "0")
    assert "count must be at least 1" in refused(capsys, sample.main, run, "--count", "0")
    assert "must end in .png" in refused(capsys, sample.main, run, "--out", "x.jpg")


def test_unwritable_image(capsys, tiny_run):
    message = refused_in_one_line(
        capsys, sample.main, tiny_run[0], "--count", "1", "--out", "/proc/x.png"
    )
    assert "/proc/" in message


@pytest.mark.parametrize("main", [evaluate.main, sample.main, reconstruct.main, interpolate.main])
def test_an_unusable_backend(capsys, tiny_run, monkeypatch, main):
    for name, expected in (
        ("fast", "FLOWPP_BACKEND must be one of auto, torch, cpu, cuda, got 'fast'"),
        ("cpp", "got 'cpp', which was the name of 'cpu' in version 0.1.0"),
        ("cuda", "'cuda' needs"),
    ):
        monkeypatch.setenv("FLOWPP_BACKEND", name)
        assert expected in refused_in_one_line(capsys, main, tiny_run[0], "--device", "cpu")
    message = refused_in_one_line(capsys, main, tiny_run[0], "--device", "cuda:99")
    assert "device 'cuda:99' is not usable" in message


def test_an_unusable_backend_in_training(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPP_BACKEND", "cpp")
    message = refused_in_one_line(capsys, train.main, "--out", tmp_path / "run")
    assert "FLOWPP_BACKEND must be one of auto, torch, cpu, cuda, got 'cpp'" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("main", [sample.main, reconstruct.main, interpolate.main])
def test_a_missing_sample_folder_is_created_and_an_unwritable_one_is_refused(
    capsys, tmp_path, tiny_run, monkeypatch, main
):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run[0], copy, ignore=shutil.ignore_patterns("samples"))
    main([str(copy)])
    assert list((copy / "samples").glob("*.png"))
    capsys.readouterr()
    monkeypatch.setattr(os, "access", lambda *_: False)
    message = refused_in_one_line(capsys, main, copy)
    assert f"{copy / 'samples'} is not writable" in message


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (train.main, ["small", "--data.path", "missing", "--out", "OUT/run"]),
        (evaluate.main, ["missing", "--out", "OUT/a.json"]),
        (score.main, ["missing", "missing", "--out", "OUT/a.csv"]),
        (classify.main, ["missing", "missing", "--out", "OUT/a.csv"]),
        (compress.main, ["missing", "missing", "--out", "OUT/a.fpp"]),
        (report.main, ["missing", "--out", "OUT/a.html"]),
        (sample.main, ["missing", "--out", "OUT/a.png"]),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_images_are_read(
    capsys, tmp_path, monkeypatch, main, arguments
):
    monkeypatch.setattr(os, "access", lambda *_: False)
    given = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    message = refused_in_one_line(capsys, main, *given)
    assert f"folder {tmp_path} is not writable" in message


def test_a_file_instead_of_a_run(capsys, tiny_run):
    file = tiny_run[0] / "checkpoints" / "best.safetensors"
    message = refused_in_one_line(capsys, report.main, file)
    assert message.endswith(f"no run directory at {file}, got a file")


def test_run_is_required(capsys):
    assert "RUN" in refused(capsys, evaluate.main)


def test_help_names_the_presets(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["photos", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("digits", "photos", "cifar10", "--training.steps", "--out", "those of photos"):
        assert word in text


def test_from_a_shell():
    """Run the command in its own process, to check the module path and exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "flowpp.train", "didgits"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "did you mean 'digits'?" in done.stderr


def test_images_that_have_moved(capsys, tmp_path, tiny_run):
    """The error says how to name the present place of the images, in training and elsewhere."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run[0], run)
    config = json.loads((run / "config.json").read_text())
    config["data"] |= {"source": "folder", "path": str(tmp_path / "gone"), "size": 8}
    (run / "config.json").write_text(json.dumps(config))
    hint = "gone is not a folder, and no file of that name exists; if the images have moved, "
    for main, arguments in ((train.main, ["--resume", run]), (evaluate.main, [run])):
        message = refused_in_one_line(capsys, main, *arguments)
        assert f"{hint}--data.path says where they are" in message


def test_a_run_that_another_process_has_begun_meanwhile(capsys, tmp_path, monkeypatch):
    """Another process creates the run while this one loads its data."""
    out = tmp_path / "run"

    def other(config, group):
        out.mkdir()
        (out / "config.json").write_text("{}")
        return prepare(config, group)

    monkeypatch.setattr(setup, "prepare", other)
    with pytest.raises(SystemExit, match="^error: run directory must be new or empty, got "):
        train.main(["digits", *TINY_RUN.split(), "--out", str(out)])


@pytest.mark.parametrize(
    ("main", "method"),
    [
        (sample.main, "sample"),
        (reconstruct.main, "round_trip"),
        (interpolate.main, "encode"),
        (interpolate.main, "decode"),
    ],
)
@pytest.mark.parametrize("error", [RootError("no root"), NonFiniteImageError("no image")])
def test_a_model_that_cannot_decode(tiny_run, tmp_path, monkeypatch, main, method, error):
    """Training at too high a rate can leave such a model."""

    def failed(*_, **__):
        raise error

    monkeypatch.setattr(TrainedModel, method, failed)
    with pytest.raises(SystemExit, match=f"^error: {error}$"):
        main([str(tiny_run[0]), "--out", str(tmp_path / "x.png")])
    assert not any(tmp_path.iterdir())


def test_images_without_the_name_of_their_setting(capsys, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    for given in ([tmp_path], sorted(tmp_path.iterdir())):
        message = refused_in_one_line(capsys, train.main, "small", *given)
        assert message.endswith(f"did you mean: --data.path {tmp_path}")
    many = [f"f{number}.png" for number in range(1000)]
    message = refused_in_one_line(capsys, train.main, "small", "--data.path", *many)
    assert "f1.png" in message and len(message) < 400


def test_a_folder_of_runs_suggests_the_newest(capsys, tmp_path):
    for number, name in enumerate(("newest", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
        os.utime(tmp_path / name / "config.json", (9 - number, 9 - number))
    message = refused_in_one_line(capsys, evaluate.main, tmp_path)
    assert message.endswith(f"it has no config.json; did you mean {tmp_path / 'newest'}?")


def test_commands_to_copy_are_quoted(capsys, tmp_path):
    folder = tmp_path / "my images"
    folder.mkdir()
    quoted = f"--data.path '{folder}'"
    for arguments in ([folder], ["small", folder], ["digits", "--data.path", folder]):
        assert refused_in_one_line(capsys, train.main, *arguments).endswith(quoted)
