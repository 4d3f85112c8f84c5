"""`interpolate` and `reconstruct` with conditional models: held-out images with their contexts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import flowpp
from conditional import SPECS, saved
from flowpp import interpolate, reconstruct
from flowpp.data import load
from flowpp.interpolate import contexts_between
from tiny import TINY

DATA = {"labels": {"labels": "folder"}, "low-resolution": {"context": "low-resolution"}}


@pytest.fixture(scope="module", params=DATA)
def run(request, tmp_path_factory):
    """A checkpoint file of an untrained model, and its data."""
    data = dataclasses.replace(TINY.data, **DATA[request.param])
    config, images = dataclasses.replace(TINY, data=data), load(data)
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    return saved(file, config, images.shape, images.levels, images.context), images


def test_reconstructions_with_the_images_contexts(run, tmp_path, capsys):
    file, images = run
    out = tmp_path / "r.png"
    reconstruct.main([str(file), "--count", "4", "--dtype", "float64", "--out", str(out)])
    with np.load(tmp_path / "r.npz", allow_pickle=False) as written:
        assert np.array_equal(written["images"], images.test[:4])
        assert np.array_equal(written["reconstructed"], images.test[:4])
        assert written["distance"].max() < 1e-9
    assert "0 of 256 pixel values changed" in capsys.readouterr().out


def test_interpolations_begin_and_end_with_the_images(run, tmp_path):
    file, images = run
    flags = ["--pairs", "2", "--steps", "4", "--out", str(tmp_path / "i.png"), "--seed", "2"]
    interpolate.main([str(file), *flags])
    with np.load(tmp_path / "i.npz", allow_pickle=False) as written:
        rows = written["images"].reshape(2, 4, *images.shape)
    assert np.array_equal(rows[:, 0], images.test[0:4:2])
    assert np.array_equal(rows[:, 3], images.test[1:4:2])
    # The inner ones are decoded with the contexts between.
    model, contexts = flowpp.load(file), images.context_of("test")
    z = model.encode(images.test[:2], contexts[:2], seed=2).astype(np.float64)
    points = interpolate.between(z[0], z[1], 4, "great-circle")
    given = contexts_between(contexts[0], contexts[1], 4, model.context_spec)
    assert np.array_equal(rows[0], model.decode(points, given))


@pytest.mark.parametrize("command", [reconstruct, interpolate])
def test_classes_of_other_names_are_refused(command, tmp_path, capsys):
    """A class that was added to the folder would shift all labels."""
    data = dataclasses.replace(TINY.data, labels="folder")
    images, config = load(data), dataclasses.replace(TINY, data=data)
    trained = dataclasses.replace(images.context, names=images.context.names[::-1])
    file = saved(tmp_path / "m.safetensors", config, images.shape, images.levels, trained)
    with pytest.raises(SystemExit, match="2"):
        command.main([str(file), "--out", str(tmp_path / "x.png")])
    message = capsys.readouterr().err
    assert "for none (9, 8, 7," in message and "for none (0, 1, 2," in message


def test_contexts_between():
    labels = contexts_between(np.array(2), np.array(5), 4, SPECS["labels"])
    assert labels.tolist() == [2, 2, 5, 5] and labels.dtype.kind == "i"
    middle = contexts_between(np.array(2), np.array(5), 3, SPECS["labels"])
    assert middle.tolist() == [2, 5, 5]
    vectors = contexts_between(np.zeros(2), np.array([3.0, 6.0]), 4, SPECS["vectors"])
    np.testing.assert_allclose(vectors, [[0, 0], [1, 2], [2, 4], [3, 6]])
    a, b = np.zeros((2, 8, 8), np.uint8), np.full((2, 8, 8), 16, np.uint8)
    masks = contexts_between(a, b, 4, SPECS["mask"])
    assert np.array_equal(masks, np.stack([a, a, b, b]))
