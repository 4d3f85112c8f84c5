"""`python -m flowpp.evaluate` on other parts of the run's images, and on other images."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import flowpp
from flowpp import data, evaluate
from flowpp.config import DataConfig
from flowpp.evaluation.importance import importance_bounds
from flowpp.training.loop import train
from tiny import TINY

PARTS = {"train": 8, "val": 3, "test": 5}


def save(pixels, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a folder with training, validation and test images."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in PARTS.items():
        for index in range(count):
            pixels = draw.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            save(pixels, folder / "set" / part / f"{index}.png")
    settings = DataConfig(source="folder", path=str(folder / "set"), size=8)
    training = dataclasses.replace(TINY.training, steps=1, init_batch_size=8)
    train(dataclasses.replace(TINY, data=settings, training=training), folder / "run")
    return folder / "run"


def evaluated(run, out, *flags):
    evaluate.main([str(run), "--out", str(out), *flags])
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("part", "name", "label"),
    [("train", "train", "training"), ("valid", "val", "validation"), ("test", "test", "test")],
)
def test_each_part_can_be_evaluated(part, name, label, run, tmp_path, capsys):
    receipt = evaluated(run, tmp_path / "r.json", "--split", part)
    printed = capsys.readouterr().out
    assert f"{label} bits/dim on set, {PARTS[name]} images" in printed
    assert ("independent pixels" in printed) == (part != "train")
    assert receipt["data"]["part"] == part and receipt["data"]["count"] == PARTS[name]
    model = flowpp.load(run)
    images = data.load(model.config.data).part(part)
    expected = importance_bounds(model.model, images, 1, seed=model.config.training.seed)[1]
    assert receipt["bounds"][0]["mean"] == pytest.approx(expected.mean, abs=1e-5)


def refused(run, flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([str(run), *map(str, flags)])
    return " ".join(capsys.readouterr().err.split())


def test_a_part_that_is_not_there(tiny_run, run, capsys):
    message = refused(tiny_run[0], ["--split", "valid"], capsys)
    assert "no validation images apart from its 297 test images" in message
    assert "at most 3, the validation images" in refused(
        run, ["--split", "valid", "--images", "4"], capsys
    )


def test_other_images_without_the_flag_name_it_first(run, tmp_path, capsys):
    other = tmp_path / "other"
    for index in range(20):
        save(np.full((8, 8, 3), index, np.uint8), other / f"{index:02}.png")
    for path in (other, other / "00.png"):
        message = refused(run, ["--data.path", path], capsys)
        assert message.startswith("error: --other-data must be added to evaluate on other images")
        assert f"if {path} should have the run's: " in message


def test_grey_and_bad_files_among_other_images(run, tmp_path, capsys):
    other, out = tmp_path / "other", tmp_path / "r.json"
    save(np.full((8, 8, 3), 9, np.uint8), other / "a.png")
    save(np.full((8, 8), 9, np.uint8), other / "grey.png")
    (other / "page.html").write_text("x")
    flags = ["--other-data", "--data.path", str(other)]
    message = refused(run, flags, capsys)
    assert "data.channels 3 converts all to colour; --skip-bad leaves such files" in message
    receipt = evaluated(run, out, *flags, "--data.channels", "3")
    assert receipt["data"]["count"] == 2 and receipt["data"]["part"] == "other"
    printed = capsys.readouterr().out
    assert "bits/dim on other, 2 images, which are not the run's" in printed
    assert "1 file not read: 1 .html" in printed
    assert "converted to the other kind, grey or colour: 1 file" in printed
    receipt = evaluated(run, out, *flags, "--skip-bad")
    recorded = receipt["environment"]["data"]
    assert receipt["data"]["count"] == 1 and "grey.png must be a colour" in recorded["skipped"][0]
    assert "1 file not read: 1 .html" in recorded["notes"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--skip-bad"], "skip_bad needs other_data"),
        (["--data.channels", "3"], "data.channels needs other_data"),
        (["--split", "valid", "--other-data", "--data.path", "x"], "split must be of the run's"),
        (["--split", "vald"], "must be one of"),
    ],
)
def test_mistakes(flags, message, run, capsys):
    assert message in refused(run, flags, capsys)


def test_the_best_checkpoint(tiny_run, tmp_path):
    receipt = evaluated(tiny_run[0], tmp_path / "r.json", "--checkpoint", "best")
    assert receipt["weights"]["step"] == flowpp.load(tiny_run[0], checkpoint="best").step
