"""Which images are trained on, validated on and held out, by the names of their folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from flowpp import data, train
from flowpp.config import DataConfig
from flowpp.config.presets import SMALL
from flowpp.data.autoconfig import configure
from flowpp.data.split_names import role_of
from flowpp.data.splits import split
from flowpp.runs.run import Run
from flowpp.training import loop
from flowpp.training.setup import prepare


def write(folder, values):
    """Write an 8x8 image of each value."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / f"{value:03}.png")


def load(folder, **settings):
    return data.load(DataConfig(source="folder", path=str(folder), size=8, **settings))


def values(images):
    return sorted(images[:, 0, 0, 0].tolist())


PAIRS = [
    ("train", "test"), ("Train", "Test"), ("TRAIN", "TEST"), ("train", "eval"),
    ("train", "holdout"), ("train", "held-out"), ("train", "hold_out"), ("train", "dev"),
    ("training", "testing"), ("training_set", "test_set"), ("trainset", "testset"),
    ("train2017", "val2017"), ("Training-Images", "validation images"), ("train_32x32", "valid"),
    ("imgs/train", "imgs/test"), ("data/images/Train", "data/images/Evaluation"),
    ("DIV2K_train_HR", "DIV2K_valid_HR"), ("trainA", "testA"), ("x_train", "x_test"),
]  # fmt: skip


@pytest.mark.parametrize(("train_name", "test_name"), PAIRS)
def test_test_images_are_not_trained_on(tmp_path, train_name, test_name):
    write(tmp_path / train_name / "cats", range(10, 15))
    write(tmp_path / train_name / "dogs", range(15, 20))
    write(tmp_path / test_name, range(20, 24))
    images = load(tmp_path)
    assert values(images.train) == list(range(10, 20)) and images.valid is None
    assert values(images.test) == list(range(20, 24))
    described = "\n".join(images.description())
    assert f"10 images: {tmp_path / train_name}" in described
    assert f"4 images: {tmp_path / test_name}; also for evaluations during training" in described


def test_every_class_may_have_its_own_split(tmp_path):
    for start, name in ((10, "cats"), (30, "dogs")):
        write(tmp_path / name / "train", range(start, start + 5))
        write(tmp_path / name / "test", range(start + 5, start + 7))
    images = load(tmp_path)
    assert values(images.test) == [15, 16, 35, 36] and len(images.train) == 10
    assert "cats/train and 1 other" in images.origins["train"]


def test_three_parts(tmp_path):
    for name, start in (("train", 0), ("val", 20), ("test", 30)):
        write(tmp_path / name, range(start, start + 4))
    images = load(tmp_path)
    assert images.valid is not None and values(images.valid) == [20, 21, 22, 23]
    assert values(images.test) == [30, 31, 32, 33] and images.held_out is images.valid
    assert [line.split()[0] for line in images.description()] == ["training", "validation", "test"]
    two_parts = replace(images, valid=None)
    assert images.sha256 != two_parts.sha256 and two_parts.held_out is images.test
    assert images.has_hash(images.sha256) and images.has_hash(two_parts.sha256)
    assert not two_parts.has_hash(images.sha256)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "extra"], "training images, train, but no images to hold out"),
        (["test", "extra"], "images to hold out, test, but no folder train"),
        (["val", "test"], "images to hold out, test and val, but no folder train"),
        (["train", "Train", "test"], "one folder of training images, got Train and train"),
        (
            ["train2014", "train2017", "val2017"],
            "one folder of training images, got train2014 and",
        ),
        (["trainA", "testA", "trainB", "testB"], "one folder of test images, got testA and testB"),
        (["cats/train", "cats/test", "dogs/train", "dogs/val"], "same kinds of split everywhere"),
        (["cats/train", "dogs/train"], "but no images to hold out beside them"),
    ],
)
def test_half_a_split_and_an_ambiguous_one_are_refused(tmp_path, names, message):
    for number, name in enumerate(names):
        write(tmp_path / name, range(20 * number, 20 * number + 10))
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path)
    assert "data.split 'tenth' holds out every tenth" in str(refused.value)
    assert "--" not in str(refused.value)  # a setting, in Python and on the command line
    assert "\n" not in str(refused.value)
    images = load(tmp_path, split="tenth")
    assert len(images.test) == len(names) and "every tenth of" in images.origins["test"]
    assert len(load(tmp_path, split="fifth").test) == 2 * len(names)


@pytest.mark.parametrize("names", [["test tubes", "trains"], ["cats", "dogs"], ["train stations"]])
def test_names_of_classes_are_no_split(tmp_path, names):
    for number, name in enumerate(names):
        write(tmp_path / name, range(20 * number, 20 * number + 10))
    images = load(tmp_path)
    assert len(images.test) == len(names) and "every tenth" in images.origins["test"]


def test_images_outside_the_split_are_counted(tmp_path):
    for name, start in (("train", 0), ("test", 20), ("unlabelled", 30), ("train_masks", 40)):
        write(tmp_path / name, range(start, start + 4))
    assert "8 images outside the folders of the split not used" in load(tmp_path).notes


@pytest.mark.parametrize(
    ("name", "role", "rest"),
    [
        ("Held_Out", "test", ()),
        ("hold out images", "test", ()),
        ("VALIDATION", "valid", ()),
        ("trainset-2017", "train", ()),
        ("DIV2K_train_HR", "train", ("div", "k", "hr")),
    ],
)
def test_names(name, role, rest):
    assert role_of(name) == (role, rest)


@pytest.mark.parametrize("name", ["train_test", "constraint", "latest", "valley", "2017", ""])
def test_names_without_a_role(name):
    assert role_of(name) is None


def test_the_highest_level_decides():
    images = [PurePosixPath(p) for p in ("test/train/1.png", "train/test/2.png")]
    chosen = split("set", images, "auto")
    assert chosen.parts == {"train": (images[1],), "test": (images[0],)}


def test_linked_folders(tmp_path):
    """A link `train` is followed, others are counted."""
    write(tmp_path / "elsewhere" / "a", range(10))
    folder = tmp_path / "set"
    write(folder / "test", range(10, 14))
    (folder / "train").symlink_to(tmp_path / "elsewhere" / "a")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "val").symlink_to(tmp_path)
    images = load(folder)
    assert len(images.train) == 10 and len(images.test) == 4
    assert "2 links to folders or to nothing not followed" in images.notes


def test_hashes_of_former_runs_are_kept(tmp_path):
    """Recorded with version 0.1.0 for files written here, of the size asked for."""
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    images = load(tmp_path)
    assert (len(images.train), len(images.test)) == (11, 1)
    assert images.sha256.startswith(FORMER_HASH)


FORMER_HASH = "de807de8d2646d4a"
FLAGS = ["--training.steps", "2", "--training.evaluate_every", "1", "--training.batch_size", "4",
         "--training.init_batch_size", "4", "--training.sample_count", "1", "--data.size", "8",
         "--model.flow.layout", "squeeze,channels\t1", "--model.flow.filters", "4",
         "--model.flow.blocks", "1"]  # fmt: skip


def test_a_run_validates_on_val_and_tests_on_test(tmp_path, capsys):
    for name, start, count in (("train", 0, 12), ("val", 100, 6), ("test", 200, 4)):
        write(tmp_path / "set" / name, range(start, start + count))
    out = tmp_path / "run"
    train.main(["small", "--data.path", str(tmp_path / "set"), "--out", str(out), *FLAGS])
    printed = capsys.readouterr().out
    for line in (f"training    12 images: {tmp_path}/set/train", "validation  6 images: ",
                 "test        4 images: ", "test bits/dim on set, 4 images"):  # fmt: skip
        assert line in printed
    result = json.loads((out / "result.json").read_text())
    assert result["held_out"] == "test" and result["valid_bits_per_dim"] is not None
    assert f"validation images          {result['valid_bits_per_dim']:.4f}" in printed
    recorded = json.loads((out / "environment.json").read_text())["data"]
    assert (recorded["train"], recorded["valid"], recorded["held_out"]) == (12, 6, 4)
    assert recorded["origins"]["valid"].endswith("set/val")
    evaluations = [r for r in Run.open(out).metrics() if "held_out_images" in r]
    assert {r["held_out_images"] for r in evaluations} == {6}
    best = min(evaluations, key=lambda r: r["held_out_bits_per_dim"])["step"]
    assert Run.open(out).load_checkpoint("best").step == best


def test_a_resumed_run_may_be_told_to_split_as_before(tmp_path, capsys):
    write(tmp_path / "set" / "Train", range(20))
    write(tmp_path / "set" / "Test", range(20, 40))
    out = tmp_path / "run"
    train.main(["small", "--data.path", str(tmp_path / "set"), "--out", str(out), *FLAGS,
                "--data.split", "tenth"])  # fmt: skip
    written = json.loads((out / "config.json").read_text())
    written["data"]["split"] = "auto"
    (out / "config.json").write_text(json.dumps(written))
    more = ["--resume", str(out), "--training.steps", "3"]
    with pytest.raises(SystemExit) as stop:
        train.main(more)
    assert "read differently since 0.1.0" in str(stop.value)
    train.main([*more, "--data.split", "tenth"])
    assert json.loads((out / "result.json").read_text())["steps"] == 3
    capsys.readouterr()


def test_settings_are_chosen_for_all_parts(tmp_path):
    for name, start in (("train", 0), ("val", 100), ("test", 200)):
        write(tmp_path / name, range(start, start + 8))
    config = replace(SMALL, data=DataConfig(source="folder", path=str(tmp_path)))
    config, notes = configure(config)
    assert notes[0] == "24 colour images, all of 8x8 pixels"
    assert config.training.batch_size == 8


def test_a_run_that_began_without_validation_images_goes_on_without(tmp_path, capsys):
    """Version 0.1.0 ignored a folder val beside train and test."""
    for name, start, count in (("train", 0, 12), ("val", 100, 6), ("test", 200, 4)):
        write(tmp_path / "set" / name, range(start, start + count))
    out, path = tmp_path / "run", str(tmp_path / "set")
    arguments = ["small", "--data.path", path, "--out", str(out), *FLAGS]
    config, _ = configure(train.read_arguments(arguments).config)
    images, model = prepare(config)
    loop.train(config, out, (replace(images, valid=None), model))
    train.main(["--resume", str(out), "--training.steps", "3"])
    counts = {r["held_out_images"] for r in Run.open(out).metrics() if "held_out_images" in r}
    result = json.loads((out / "result.json").read_text())
    assert counts == {4} and result["steps"] == 3 and result["valid_bits_per_dim"] is None
    assert "validation" not in capsys.readouterr().out
