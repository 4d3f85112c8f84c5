"""`python -m flowpp.score` with a conditional model: labels of folders, one for all, contexts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

import flowpp
from conditional import saved
from flowpp import score
from flowpp.data.derived_contexts import low_resolution
from flowpp.evaluation.scores import bits_maps
from tiny import TINY

NAMES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: saved(folder / f"{kind}.safetensors", TINY, (1, 8, 8), 17, kind)
        for kind in ("labels", "low-resolution", "vectors")
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    for index in range(6):
        file = folder / "test" / NAMES[index % 3] / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 17, (8, 8)).astype(np.uint8)).save(file)
    return folder


def scored(model, pictures, tmp_path, *flags):
    out = tmp_path / "s.csv"
    score.main(
        [str(model), str(pictures), "--out", str(out), "--seed", "5", "--show", "1", *flags]
    )
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["image"] for row in rows]
    pixels = np.stack([np.asarray(Image.open(pictures / name))[None] for name in names])
    return names, pixels, np.array([float(row["bits_per_dim"]) for row in rows])


def test_labels_of_the_folders(models, pictures, tmp_path):
    names, pixels, bits = scored(models["labels"], pictures, tmp_path)
    labels = [name.split("/")[1] for name in names]
    expected = flowpp.load(models["labels"]).bits_per_dim(pixels, labels, seed=5)
    np.testing.assert_allclose(bits, expected, atol=2e-6)
    assert json.loads((tmp_path / "s.json").read_text())["data"]["context"] == "that of each image"


@pytest.mark.parametrize("label", ["dog", "none"])
def test_one_label_for_all(label, models, pictures, tmp_path):
    _, pixels, bits = scored(models["labels"], pictures, tmp_path, "--label", label)
    expected = flowpp.load(models["labels"]).bits_per_dim(pixels, label, seed=5)
    np.testing.assert_allclose(bits, expected, atol=2e-6)
    assert json.loads((tmp_path / "s.json").read_text())["data"]["context"] == label


def test_contexts_made_of_the_images(models, pictures, tmp_path):
    _, pixels, bits = scored(models["low-resolution"], pictures, tmp_path)
    model = flowpp.load(models["low-resolution"])
    expected = model.bits_per_dim(pixels, low_resolution(pixels, 2), seed=5)
    np.testing.assert_allclose(bits, expected, atol=2e-6)


def test_vectors_of_a_table(models, pictures, tmp_path, capsys):
    table = tmp_path / "numbers.csv"
    names = [f"{index:02}.png" for index in range(6)]
    table.write_text("".join(f"{name},{i},{i / 2}\n" for i, name in enumerate(names)))
    found, pixels, bits = scored(models["vectors"], pictures, tmp_path, "--context", str(table))
    rows = [int(name[-6:-4]) for name in found]
    vectors = np.array([[i, i / 2] for i in rows], np.float32)
    expected = flowpp.load(models["vectors"]).bits_per_dim(pixels, vectors, seed=5)
    np.testing.assert_allclose(bits, expected, atol=2e-6)
    table.write_text("".join(f"{name},{i}\n" for i, name in enumerate(names)))
    with pytest.raises(SystemExit, match="2"):
        scored(models["vectors"], pictures, tmp_path, "--context", str(table))
    assert "numbers.csv" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["labels", "low-resolution"])
def test_maps_sum_to_the_bits_given_the_context(kind, models):
    pixels = np.random.default_rng(1).integers(0, 17, (6, 1, 8, 8), dtype=np.uint8)
    contexts = np.arange(6) % 3
    if kind == "low-resolution":
        contexts = low_resolution(pixels, 2)
    model = flowpp.load(models[kind])
    maps = bits_maps(model.model, pixels, [4, 1], 1, seed=5, contexts=contexts)
    expected = 64 * model.bits_per_dim(pixels, contexts, seed=5)[[4, 1]]
    np.testing.assert_allclose(maps.sum((1, 2)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("labels", ["--label", "cta"], "label must be one of: bird, cat, dog, or none"),
        ("labels", ["--label", "cat", "--labels", "x.csv"], "label and labels exclude"),
        ("low-resolution", ["--label", "cat"], "need a model of labels, got one of images"),
        ("vectors", [], "need a vector of 2 numbers each (age, height): give --context PATH"),
        ("vectors", ["--context", "nothing.csv"], "nothing.csv"),
        ("labels", ["--context", "x.csv"], "context needs a model of vectors or of a second"),
        ("low-resolution", ["--context", "x"], "got one of low-resolution images"),
    ],
)
def test_mistakes(kind, flags, message, models, pictures, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        scored(models[kind], pictures, tmp_path, *flags)
    assert message in capsys.readouterr().err


def test_an_image_without_a_label_is_named(models, tmp_path, capsys):
    folder = tmp_path / "mixed"
    for name in ("cat/a.png", "other/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 3).save(folder / name)
    with pytest.raises(SystemExit, match="2"):
        scored(models["labels"], folder, tmp_path)
    error = capsys.readouterr().err
    assert "images need a label each" in error
    assert "got none for 1 of 2 images, the first: other/b.png" in error
