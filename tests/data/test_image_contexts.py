"""Contexts of data sets without files beside them, and of images other than a run's."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data import ImageSet, cifar10, derived_contexts
from flowpp.data.contexts_of_others import contexts_of, labels_of, with_contexts
from flowpp.data.derived_contexts import draw_masks, fixed_masks, grey, low_resolution, masked
from flowpp.data.unsplit import load_all

RNG = np.random.default_rng(0)
MASKS = "cb78bad65dadd8d2"
DIGITS = ContextSpec("labels", "folder", tuple("0123456789"))


def test_digits_have_their_labels():
    plain, images = data.load(DataConfig()), data.load(DataConfig(labels="folder"))
    assert images.context == DIGITS and (images.train == plain.train).all()
    bunch = datasets.load_digits()
    lookup = {image.astype(np.uint8).tobytes(): label
              for image, label in zip(bunch.images, bunch.target, strict=True)}  # fmt: skip
    for part in ("train", "test"):
        truth = [lookup[image.tobytes()] for image in images.part(part)]
        assert images.context_of(part).tolist() == truth
    assert images.context_of("test").shape == (297,) and images.held_out_part == "test"
    assert plain.context_of("test") is None and plain.sha256 != images.sha256
    assert images.has_hash(images.sha256) and not images.has_hash(plain.sha256)
    assert "labels      10 classes: 0, 1, 2, " in images.description()[-1]


@pytest.mark.parametrize("source", ["digits", "photos"])
@pytest.mark.parametrize("labels", ["labels.csv", "folder"])
def test_labels_that_a_data_set_has_not(source, labels):
    if (source, labels) == ("digits", "folder"):
        return
    with pytest.raises(ValueError, match="needs a data set with labels|must be folder for digits"):
        data.load(DataConfig(source=source, labels=labels))


def test_cifar10_names_its_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 4)
    for number, name in enumerate((*cifar10.TRAIN_FILES, *cifar10.TEST_FILES)):
        labels = [(number + 3 * i) % 10 for i in range(4)]
        pixels = np.repeat(np.array(labels, np.uint8)[:, None], 3072, axis=1)
        (tmp_path / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}))
    config = DataConfig(source="cifar10", path=str(tmp_path), labels="folder")
    images = data.load(config)
    for part in ("train", "test"):
        names = [images.context.names[label] for label in images.context_of(part)]
        assert names == [cifar10.CLASSES[v] for v in images.part(part)[:, 0, 0, 0]]
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({b"data": pixels, b"labels": [1, 2]}))
    with pytest.raises(ValueError, match="labels of data_batch_2 .* a list of 4, got 2 of them"):
        data.load(config)
    rows = pixels.reshape(4, 32, 32, 3)
    arrays = {"train": rows, "test": rows, "test_labels": [0, 1, 1, 0]}
    config = replace(config, path=str(tmp_path / "c.npz"))
    for labels, message in (
        ([0, 1, 1], "a label for each image, got {'train': 3, 'test': 4}"),
        ([0, 1, 10, 0], "must lie in 0 ... 9, the 10 names, got 10"),
        ([0.0, 1.0, 1.0, 0.0], "must be integers or texts, got float64"),
        (np.eye(4), r"shape \(N,\), got \(4, 4\); of one-hot rows use"),
    ):
        np.savez(tmp_path / "c.npz", train_labels=labels, **arrays)
        with pytest.raises((ValueError, TypeError), match=message):
            data.load(config)
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(ValueError, match="must have train_labels and test_labels for data.labels"):
        data.load(config)
    np.savez(tmp_path / "c.npz", train_labels=[0, 1, 1, 0], **arrays)
    assert data.load(config).context.names == ("airplane", "automobile")


def test_labels_of_imagenet(tmp_path):
    train = {"train_data_batch_1": [7, 3, 7, 10], "train_data_batch_2": [10, 3]}
    for name, numbers in {**train, "val_data": [3, 7]}.items():
        rows = np.repeat(np.array(numbers, np.uint8)[:, None], 3072, axis=1)
        np.savez(tmp_path / f"{name}.npz", data=rows, labels=numbers)
    config = DataConfig(source="imagenet32", path=str(tmp_path), partial=True, labels="folder")
    images = data.load(config)
    assert images.context.names == ("3", "7", "10")
    for part in ("train", "test"):
        names = [images.context.names[label] for label in images.context_of(part)]
        assert names == [str(value) for value in images.part(part)[:, 0, 0, 0]]
    np.savez(tmp_path / "val_data.npz", data=rows)
    with pytest.raises(ValueError, match="val_data.npz must have an array 'labels', got none"):
        data.load(config)
    (tmp_path / "val_data.npz").unlink()
    (tmp_path / "train_32x32").mkdir()
    with pytest.raises(ValueError, match=r"\(PNG archives of 2016\) has no labels"):
        data.load(config)


def test_vectors_of_a_data_set_in_its_order(tmp_path):
    vectors = RNG.standard_normal((1797, 3))
    np.save(tmp_path / "v.npy", vectors)
    images = data.load(DataConfig(context=str(tmp_path / "v.npy")))
    assert (images.context.kind, images.context.shape) == ("vectors", (3,))
    assert (images.context_of("test") == vectors[1500:].astype(np.float32)).all()
    np.save(tmp_path / "v.npy", vectors[1:])
    with pytest.raises(ValueError, match="1,797 images, training, then test images, got 1,796"):
        data.load(DataConfig(context=str(tmp_path / "v.npy")))
    (tmp_path / "v.csv").write_text("a,1")
    with pytest.raises(ValueError, match="CSV files and folders go by file name, for data.sourc"):
        data.load(DataConfig(context=str(tmp_path / "v.csv")))


def test_grey_is_luma():
    images = RNG.integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    exact = np.tensordot(images, np.array([0.299, 0.587, 0.114]), axes=([1], [0]))
    found = grey(images)
    assert found.dtype == np.uint8 and found.shape == (50, 1, 4, 5)
    assert np.abs(found[:, 0] - exact).max() <= 0.5
    equal = np.full((1, 3, 2, 2), 65535, np.uint16)
    assert grey(equal).max() == 65535 and grey(equal).dtype == np.uint16
    with pytest.raises(ValueError, match="needs colour images"):
        grey(images[:, :1])


def test_low_resolution_has_the_means_of_blocks():
    images = RNG.integers(0, 256, (50, 3, 4, 6), dtype=np.uint8)
    means = images.reshape(50, 3, 2, 2, 3, 2).mean((3, 5))
    assert (low_resolution(images, 2) == np.floor(means + 0.5)).all()
    with pytest.raises(ValueError, match="divisible by 4, got 4x6"):
        low_resolution(images, 4)


def test_masked_images():
    images = RNG.integers(1, 17, (50, 2, 4, 6), dtype=np.uint8)
    masks = draw_masks(50, 4, 6, np.random.default_rng(1))
    found = masked(images, masks, 17)
    assert found.shape == (50, 3, 4, 6) and found.dtype == np.uint8
    assert (found[:, 2:] == np.where(masks, 16, 0)).all()
    assert (found[:, :2] == np.where(masks, images, 0)).all()
    with pytest.raises(ValueError, match="masks must have shape"):
        masked(images, masks[:, 0], 17)


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (4, 4), (8, 8), (31, 32)])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_masks_hide_a_quarter_to_three_quarters(shape, kind):
    generators = {"numpy": np.random.default_rng, "torch": torch.Generator().manual_seed}
    masks = draw_masks(800, *shape, generators[kind](3))
    assert masks.shape == (800, 1, *shape) and masks.dtype == bool
    share = 1 - masks.mean((1, 2, 3))
    assert share.min() >= 0.25 and share.max() <= 0.75
    rows, columns = (~masks).any(3).sum(2), (~masks).any(2).sum(2)
    assert (rows * columns == (~masks).sum((2, 3))).all()  # each is a rectangle
    halves = np.zeros((4, 1, *shape), bool)
    halves[0, ..., shape[1] // 2 :] = halves[1, ..., : (shape[1] + 1) // 2] = True
    halves[2, :, shape[0] // 2 :] = halves[3, :, : (shape[0] + 1) // 2] = True
    for half in halves:
        assert (masks == half).all((1, 2, 3)).mean() >= 0.08
    for hidden in (~masks).any((0, 1)), masks.any((0, 1)):
        assert hidden.all()  # every pixel may be hidden, and may be visible
    with pytest.raises(ValueError, match="at least 2 pixels a side, got 1x8"):
        draw_masks(1, 1, 8, np.random.default_rng(0))


def test_fixed_masks_go_by_index(monkeypatch):
    masks = fixed_masks(20, 8, 8)
    assert (fixed_masks(9, 8, 8) == masks[:9]).all()
    assert len({mask.tobytes() for mask in masks}) > 10
    images = RNG.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    whole = derived_contexts.derive(images, 256, "mask", 1)
    assert (whole == masked(images, masks, 256)).all()
    monkeypatch.setattr(derived_contexts, "CHUNK", 7)
    assert (derived_contexts.derive(images, 256, "mask", 1) == whole).all()
    digest = hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()
    assert digest.startswith(MASKS), digest  # runs of all versions are evaluated with these


@pytest.mark.parametrize("context", ["grey", "low-resolution", "low-resolution 4", "mask"])
def test_derived_contexts_are_of_the_reduced_images(context):
    config = DataConfig(source="photos", size=16, bits=5)
    plain, images = data.load(config), data.load(replace(config, context=context))
    assert (images.levels, images.context.source) == (32, context.split()[0])
    for part in ("train", "test"):
        kind, factor = replace(config, context=context).derived_context
        expected = derived_contexts.derive(plain.part(part), 32, kind, factor)
        assert (images.context_of(part) == expected).all()
    assert images.context.shape == expected.shape[1:]


@pytest.mark.parametrize(
    ("spec", "contexts", "message"),
    [
        (None, {"train": [0], "test": [0]}, r"contexts of \[\], got those of \['train', 'test'\]"),
        (DIGITS, {"train": [0]}, r"contexts of \['train', 'test'\], got those of \['train'\]"),
        (DIGITS, {"train": [0, 10], "test": [0]}, r"must lie in 0 ... 9, got 0 ... 10"),
        (DIGITS, {"train": [0, -1], "test": [0]}, r"must lie in 0 ... 9, got -1 ... 0"),
        (DIGITS, {"train": [0], "test": [0]}, r"must have shape \(2,\), got \(1,\)"),
        (DIGITS, {"train": [0.0, 1.0], "test": [0]}, "NumPy array of int64, got float64"),
        (ContextSpec("vectors", "csv", (), (1,)),
         {"train": np.full((2, 1), np.nan, np.float32), "test": np.zeros((1, 1), np.float32)},
         "contexts of train images must be finite"),
        (ContextSpec("images", "folder", (), (1, 4, 4)),
         {part: np.full((n, 1, 4, 4), 17, np.uint8) for part, n in (("train", 2), ("test", 1))},
         "contexts of train images must lie in 0 ... 16, got 17"),
        (ContextSpec("images", "folder", (), (1, 2, 4)),
         {part: np.zeros((n, 1, 2, 4), np.uint8) for part, n in (("train", 2), ("test", 1))},
         "the images' 4x4 pixels or a whole factor fewer a side, got 2x4"),
    ],
)  # fmt: skip
def test_contexts_are_checked(spec, contexts, message):
    images = np.zeros((2, 1, 4, 4), np.uint8)
    contexts = {part: np.asarray(array) for part, array in contexts.items()}
    with pytest.raises((ValueError, TypeError), match=message):
        ImageSet("some", images, images[:1], 17, context=spec, contexts=contexts)


@pytest.fixture
def others(tmp_path):
    for number in range(6):
        name = ("a/1", "a/2", "b/x/1", "b/2", "c/1", "0")[number]
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 10 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"{name}.png")
    (tmp_path / "set" / "a" / "bad.png").write_text("no image")
    return load_all(tmp_path / "set", DataConfig(), (1, 8, 8), 256, skip_bad=True)


def test_labels_of_other_images(others, tmp_path):
    spec = ContextSpec("labels", "folder", ("b", "a"))
    assert [str(path) for path in others.paths] == \
        ["0.png", "a/1.png", "a/2.png", "b/2.png", "b/x/1.png", "c/1.png"]  # fmt: skip
    assert labels_of(others, spec).tolist() == [-1, 1, 1, 0, 0, -1]
    spec = ContextSpec("labels", "folder", ("b", "set", "x"))
    assert labels_of(others, spec).tolist() == [1, 1, 1, 0, 0, 1]  # b/x/1 is b, as in training
    (tmp_path / "t.csv").write_text("file,label\na/2,b\na/bad,b\n0,set")
    assert labels_of(others, spec, str(tmp_path / "t.csv")).tolist() == [1, -1, 0, -1, -1, -1]
    (tmp_path / "t.csv").write_text("file,label\na/2,emu\n0,set")
    with pytest.raises(ValueError, match=r"must be among b, set, x; got 'emu' \(1 image\)"):
        labels_of(others, spec, str(tmp_path / "t.csv"))


def test_other_images_as_a_data_set(others):
    spec = ContextSpec("labels", "csv", ("set", "a"))
    images = with_contexts(others, spec)
    assert images.context == spec and images.context_of("test").tolist() == [0, 1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="a, b, got 2 of 6 images in others: 0.png, c/1"):
        with_contexts(others, replace(spec, names=("a", "b")))
    spec = ContextSpec("images", "mask", (), (2, 8, 8))
    expected = derived_contexts.derive(others.pixels, 256, "mask", 1)
    assert (with_contexts(others, spec).context_of("test") == expected).all()
    assert others.as_image_set().context is None


def test_labels_in_an_array_of_other_images(tmp_path):
    images = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=[3, 11, 4, 0, 3])
    found = load_all(tmp_path / "set.npz", DataConfig(), (1, 8, 8), 256)
    assert labels_of(found, DIGITS).tolist() == [3, -1, 4, 0, 3]
    np.savez(tmp_path / "set.npz", images=images)
    found = load_all(tmp_path / "set.npz", DataConfig(), (1, 8, 8), 256)
    assert labels_of(found, DIGITS).tolist() == [-1] * 5


def test_contexts_of_other_images(others, tmp_path):
    rows = ["file,size,age", *(f"{path},{i},{-i}" for i, path in enumerate(others.paths))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    spec = ContextSpec("vectors", "csv", ("age", "size"), (2,))
    assert contexts_of(others, spec, str(tmp_path / "t.csv")).tolist() == \
        [[-i, i] for i in range(6)]  # fmt: skip
    with pytest.raises(ValueError, match="must have the columns age, way, got none for way"):
        contexts_of(others, replace(spec, names=("age", "way")), str(tmp_path / "t.csv"))
    np.save(tmp_path / "v.npy", np.arange(14).reshape(7, 2))  # the bad file has a row, too
    assert contexts_of(others, spec, str(tmp_path / "v.npy"))[:, 0].tolist() == [
        0,
        2,
        4,
        8,
        10,
        12,
    ]
    with pytest.raises(ValueError, match=r"vectors of shape \(3,\), as in the training, got \(2"):
        contexts_of(others, replace(spec, shape=(3,), names=()), str(tmp_path / "v.npy"))
    for source, factor in (("low-resolution", 2), ("mask", 1)):
        shape = (2 if source == "mask" else 1, 8 // factor, 8 // factor)
        spec = ContextSpec("images", source, (), shape)
        expected = derived_contexts.derive(others.pixels, 256, source, factor)
        assert (contexts_of(others, spec) == expected).all()
    spec = ContextSpec("images", "folder", (), (1, 8, 8))
    assert (contexts_of(others, spec, str(tmp_path / "set")) == others.pixels).all()
    with pytest.raises(ValueError, match="from a file or folder, as those .* got none"):
        contexts_of(others, spec)
