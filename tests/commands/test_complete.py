"""`python -m flowpp.complete`: images given grey, small, masked and other images."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import flowpp
from conditional import saved
from flowpp import complete
from flowpp.config.context_spec import ContextSpec
from flowpp.data.derived_contexts import fixed_masks, grey, low_resolution, masked
from flowpp.evaluation.completion import Given, with_mask
from flowpp.evaluation.grids import grid
from tiny import TINY

FOLDER = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, source="folder", size=8))
SPECS = {
    "grey": ContextSpec("images", "grey", shape=(1, 8, 8)),
    "low-resolution": ContextSpec("images", "low-resolution", shape=(3, 4, 4)),
    "mask": ContextSpec("images", "mask", shape=(4, 8, 8)),
    "folder": ContextSpec("images", "folder", shape=(1, 8, 8)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: saved(folder / f"{kind}.safetensors", FOLDER, (3, 8, 8), 256, spec)
        for kind, spec in SPECS.items()
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            folder / f"{index}.png"
        )
    return folder


@pytest.fixture(scope="module")
def pixels(pictures):
    read = [np.asarray(Image.open(file)) for file in sorted(pictures.glob("*.png"))]
    return np.stack(read).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("kind", ["grey", "low-resolution", "mask"])
def test_context_samples_and_truth(kind, models, pictures, pixels, tmp_path, capsys):
    out = tmp_path / "c.png"
    flags = ["--count", "2", "--seed", "3", "--out", str(out), "--plain"]
    complete.main([str(models[kind]), str(pictures), *flags])
    contexts = {
        "grey": lambda: grey(pixels),
        "low-resolution": lambda: low_resolution(pixels, 2),
        "mask": lambda: masked(pixels, fixed_masks(3, 8, 8), 256),
    }[kind]()
    with np.load(tmp_path / "c.npz", allow_pickle=False) as written:
        assert np.array_equal(written["contexts"], contexts)
        assert np.array_equal(written["truth"], pixels)
        images = written["images"]
    model = flowpp.load(models[kind])
    drawn = model.sample(6, contexts.repeat(2, axis=0), seed=3)
    if kind == "mask":
        visible = fixed_masks(3, 8, 8).repeat(2, axis=0)
        assert not np.array_equal(images, drawn)
        drawn = np.where(visible, pixels.repeat(2, axis=0), drawn)
    assert np.array_equal(images, drawn)
    with Image.open(out) as picture:
        whole = np.asarray(picture)
    tiles = np.concatenate([images.reshape(3, 2, 3, 8, 8), pixels[:, None]], 1)
    shown = grid(tiles.reshape(-1, 3, 8, 8), 256, columns=3)
    width = shown.shape[1] - 2
    assert np.array_equal(whole[-shown.shape[0] :, -width:], shown[:, -width:])
    assert "2 samples for each of 3 images" in capsys.readouterr().out


def test_contexts_themselves_have_no_truth(models, pictures, tmp_path):
    """A grey photograph, and a folder of contexts: read in the contexts' own size."""
    small = tmp_path / "small"
    small.mkdir()
    Image.new("RGB", (4, 4), (9, 20, 250)).save(small / "a.png")
    out = tmp_path / "c.png"
    complete.main([str(models["low-resolution"]), str(small), "--contexts", "--out", str(out)])
    with np.load(tmp_path / "c.npz", allow_pickle=False) as written:
        assert written["contexts"][0, :, 1, 2].tolist() == [9, 20, 250]
        assert "truth" not in written and written["images"].shape == (3, 3, 8, 8)
    complete.main([str(models["folder"]), str(pictures), "--rows", "2", "--out", str(out)])
    with np.load(tmp_path / "c.npz", allow_pickle=False) as written:
        assert written["contexts"].shape == (2, 1, 8, 8) and "truth" not in written


def test_bad_images_are_left_out_and_grey_ones_converted(models, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("L", (8, 8), 70).save(folder / "grey.png")
    (folder / "bad.png").write_bytes(b"no image")
    flags = [str(models["grey"]), str(folder), "--out", str(tmp_path / "c.png")]
    for more, message in (
        ([], "bad.png is not a readable image"),
        (["--skip-bad"], "none of the 2 images of"),
        (["--skip-bad", "--data.channels", "1"], "data.channels must be the model's 3, got 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            complete.main([*flags, *more])
        assert message in capsys.readouterr().err
    complete.main([*flags, "--skip-bad", "--data.channels", "3"])
    with np.load(tmp_path / "c.npz", allow_pickle=False) as written:
        assert (written["truth"] == 70).all() and (written["contexts"] == 70).all()


def test_a_mask_of_ones_own(models, pictures, pixels, tmp_path):
    picture = np.full((8, 8), 255, np.uint8)
    picture[2:5, :4] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    flags = ["--mask", str(tmp_path / "mask.png"), "--out", str(tmp_path / "c.png")]
    complete.main([str(models["mask"]), str(pictures), *flags])
    visible = np.broadcast_to(picture > 0, (3, 1, 8, 8))
    with np.load(tmp_path / "c.npz", allow_pickle=False) as written:
        assert np.array_equal(written["contexts"], masked(pixels, visible, 256))
        outside = np.where(visible, written["images"][::3], 0)
        assert np.array_equal(outside, np.where(visible, pixels, 0))


def test_a_file_that_is_read_is_not_overwritten(models, pixels, tmp_path, capsys):
    """The .npz beside a picture would have been written over images of the same name."""
    np.savez(tmp_path / "a.npz", images=pixels.transpose(0, 2, 3, 1))
    content = (tmp_path / "a.npz").read_bytes()
    flags = [str(tmp_path / "a.npz"), "--rows", "1", "--count", "1"]
    with pytest.raises(SystemExit, match="2"):
        complete.main([str(models["grey"]), *flags, "--out", str(tmp_path / "a.png")])
    assert "out must be another file than" in capsys.readouterr().err
    assert (tmp_path / "a.npz").read_bytes() == content


def test_a_mask_is_fitted_as_the_images(tmp_path):
    picture = np.full((8, 16), 255, np.uint8)
    picture[:, :4] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    given = Given(np.zeros((1, 2, 8, 8), np.uint8), np.ones((1, 1, 8, 8), np.uint8))
    model = SimpleNamespace(levels=17)
    found = with_mask(model, given, tmp_path / "mask.png", "stretch").contexts[0, 1]
    assert (found[:, :2] == 0).all() and (found[:, 2:] == 16).all()
    with pytest.raises(ValueError, match="must have dark pixels"):  # its middle has none
        with_mask(model, given, tmp_path / "mask.png")


def test_held_out_images_of_a_run(tmp_path):
    config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, context="mask"))
    spec = ContextSpec("images", "mask", shape=(2, 8, 8))
    file = saved(tmp_path / "m.safetensors", config, (1, 8, 8), 17, spec)
    complete.main([str(file), "--rows", "4", "--count", "1"])
    from flowpp.data import load

    images = load(config.data)
    with np.load(tmp_path / "completed.npz", allow_pickle=False) as written:
        spread = [0, 99, 197, 296]
        assert np.array_equal(written["contexts"], images.context_of("test")[spread])
        assert np.array_equal(written["truth"], images.test[spread])


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("grey", ["--mask", "x.png"], "mask needs a run trained with masks, got one of grey"),
        ("grey", ["--rows", "9"], "rows must be at most the 3 images, got 9"),
        ("grey", ["--count", "0"], "count must be at least 1"),
        ("mask", ["--contexts"], "got a run of masks"),
        ("mask", ["--mask", "{pictures}/none.png"], "none.png"),
    ],
)
def test_mistakes(kind, flags, message, models, pictures, capsys):
    flags = [flag.format(pictures=pictures) for flag in flags]
    with pytest.raises(SystemExit, match="2"):
        complete.main([str(models[kind]), str(pictures), *flags])
    assert message in capsys.readouterr().err


def test_other_models_are_refused(tiny_run, pictures, capsys):
    with pytest.raises(SystemExit, match="2"):
        complete.main([str(tiny_run[0]), str(pictures)])
    assert "a model of image contexts" in capsys.readouterr().err
