"""The preset `small` on folders of images: chosen settings, refused and skipped files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from flowpp import data, train
from flowpp.config import DataConfig, presets
from flowpp.config.build import build_model
from flowpp.config.presets import SMALL
from flowpp.data.autoconfig import configure
from flowpp.runs.run import Run

RNG = np.random.default_rng(0)


def save(path, height=40, width=48, mode="RGB", values=256):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = RNG.integers(values, size=shape, dtype=np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = 255
    Image.fromarray(pixels, mode).save(path)


@pytest.fixture
def photos(tmp_path):
    """PNG and JPEG files of several sizes, one of them opaque with an alpha channel."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}", 33 + number, 40)
    save(folder / "screenshot.png", mode="RGBA")
    return folder


def small(folder, **changes):
    return replace(SMALL, data=DataConfig(source="folder", path=str(folder), **changes))


def test_size_levels_and_model_are_chosen_and_reported(photos):
    config, notes = configure(small(photos))
    assert (config.data.size, config.data.channels, config.data.bits) == (32, 3, 8)
    assert config.training.batch_size == 16
    text = "\n".join(notes)
    for fact in ("25 colour images", "33 to 40 pixels: resized so that the shorter side is 32, ",
                 "then centre-cropped to 32x32", "256 grey levels",
                 "dropout 0.2"):  # fmt: skip
        assert fact in text
    images = data.load(config.data)
    assert images.train.shape == (23, 3, 32, 32) and len(images.test) == 2
    assert data.declared_shape(config.data) == ((3, 32, 32), 256)


def test_batches_of_few_images(photos):
    for path in sorted(photos.iterdir())[:14]:
        path.unlink()
    config, notes = configure(small(photos))
    assert config.training.batch_size == 10 and "batches of all 10 training images" in notes


@pytest.mark.parametrize(("side", "size"), [(100, 32), (31, 16), (9, 8)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_choice_builds(tmp_path, side, size, mode):
    for number in range(3):
        save(tmp_path / f"{number}.png", side, side, mode)
    config, _ = configure(small(tmp_path))
    images = data.load(config.data)
    assert images.shape == (3 if mode == "RGB" else 1, size, size)
    build_model(config.model, image_shape=images.shape, levels=images.levels)


def test_unused_low_bits_are_dropped(tmp_path):
    for number in range(5):
        pixels = RNG.integers(8, size=(16, 16), dtype=np.uint8) << 5
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    config, notes = configure(small(tmp_path))
    assert config.data.bits == 3 and "8 grey levels" in notes
    assert data.load(config.data).levels == 8


def test_given_settings_are_kept(photos):
    given = small(photos, size=16, bits=5)
    flow = replace(given.model.flow, filters=7)
    given = replace(given, model=replace(given.model, flow=flow))
    config, _ = configure(given)
    assert (config.data.size, config.data.bits) == (16, 5)
    assert config.model == given.model


def test_other_presets_are_left_alone():
    for name in ("digits", "celeba64-5bit"):
        assert configure(presets.get(name)) == (presets.get(name), [])


def add_bad_file(folder, kind):
    """Write a file of that kind and return its name."""
    path = folder / "05-bad.png"
    if kind == "truncated":
        save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("text")
    elif kind == "empty":
        path.touch()
    elif kind == "grey":
        save(path, mode="L")
    elif kind == "deep":
        Image.fromarray(RNG.integers(65536, size=(40, 40), dtype=np.uint16)).save(path)
    elif kind == "transparent":
        Image.fromarray(RNG.integers(256, size=(40, 40, 4), dtype=np.uint8)).save(path)
    return path.name


KINDS = ["truncated", "text", "empty", "grey", "deep", "transparent"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_is_refused_by_name(photos, kind):
    name = add_bad_file(photos, kind)
    with pytest.raises(ValueError, match=name):
        config, _ = configure(small(photos))
        data.load(config.data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_is_skipped_and_counted(photos, kind):
    name = add_bad_file(photos, kind)
    config, _ = configure(small(photos, skip_bad=True, bits=5))
    images = data.load(config.data)
    assert len(images.train) + len(images.test) == 25
    assert len(images.skipped) == 1 and name in images.skipped[0]


def test_a_truncated_file_among_images_of_one_size(tmp_path):
    """Counting their levels decodes these files before the data are loaded."""
    for number in range(20):
        save(tmp_path / f"{number:02}.png", 16, 16)
    file = tmp_path / "05.png"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"05.png is not .*; data.skip_bad leaves such files out"):
        configure(small(tmp_path))
    config, _ = configure(small(tmp_path, skip_bad=True))
    assert (config.data.size, config.data.bits) == (16, 8)
    assert len(data.load(config.data).skipped) == 1


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs data.path, a folder"):
        configure(SMALL)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        configure(small(tmp_path / "none"))
    with pytest.raises(ValueError, match="images to train on and to hold out, got 0 and 0"):
        configure(small(tmp_path))
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(ValueError, match="none of the 3 images can be read"):
        configure(small(tmp_path, skip_bad=True))
    for number in range(3):
        save(tmp_path / f"{number}.png", 4, 4)
    with pytest.raises(ValueError, match="at least 8 pixels a side, got 4"):
        configure(small(tmp_path, skip_bad=True))


def test_training_with_one_command(photos, tmp_path, capsys):
    add_bad_file(photos, "text")
    flags = "--training.steps 1 --training.sample_count 4 --training.batch_size 2 --data.size 8"
    tiny = "--model.flow.layout squeeze,channels\t1 --model.flow.filters 4 --model.flow.blocks 1"
    arguments = ["--preset", "small", "--data.path", str(photos), "--data.skip-bad",
                 "--training.init-batch-size", "4", "--out", str(tmp_path / "run"),
                 *flags.split(), *tiny.split(" ")]  # fmt: skip
    train.main(arguments)
    output = capsys.readouterr().out
    assert "1 file skipped, the first: " in output and "05-bad.png" in output
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]
    assert len(recorded["skipped"]) == 1 and recorded["train"] == 23
    assert Run.open(tmp_path / "run").config().data.size == 8


def test_errors_are_one_line(photos, capsys, tmp_path):
    add_bad_file(photos, "grey")
    with pytest.raises(SystemExit) as stop:
        train.main(["small", "--data.path", str(photos), "--out", str(tmp_path / "run")])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.count("\n") == 1
    assert "05-bad.png is a grey image among 25 colour ones" in message and "skip_bad" in message
