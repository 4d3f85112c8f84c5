"""Labels, vectors and paired images that do not fit their images are refused by name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from flowpp import data
from flowpp.config import DataConfig

SIDE = 8
GOOD = [f"{i}.png,{'cat' if i % 3 else 'dog'}" for i in range(12)]
VECTORS = [f"{i}.png,{i},{-i / 2}" for i in range(12)]
FLAT = [f"{i}.png" for i in range(12)]


def png(side=SIDE, mode="RGB", seed=0):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def write(folder, names, content=None):
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed=seed) if content is None else content)


def load(folder, **settings):
    return data.load(DataConfig(source="folder", path=str(folder), size=SIDE, **settings))


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "flat"
    write(folder, FLAT)
    return folder


def classes(*names, count=3, within=""):
    return [f"{within}{name}/{i}.png" for name in names for i in range(count)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (FLAT, r"needs class folders in .*, such as cat/1.png, got 0.png, 1.png, 10.png, ...; "),
        ([*classes("a", "b"), "x.png", "y.png"], "a, b, got 2 of 8 images outside them: x.png, y"),
        (classes("cat", count=9), "at least two classes, got only 'cat': labels would say noth"),
        (
            [*classes("a", "b", within="train/"), *classes("a", "emu", within="test/")],
            r"each class must have training images, got none but test images of 'emu' \(3 images\)"
            "; classes of training images: a, b",
        ),
        ([*classes("a", count=9), "b/0.png", *classes("c")], r"test images of 'b' \(1 image\)"),
        (classes("cat", "None"), "'None' must not be the name of a class: it stands for no label"),
        (classes("all", "dog"), "'all' must not be the name of a class: it stands for every"),
        ([f"{i}/a.png" for i in range(6)], "got 5 classes of 5 training images; for numbers use"),
    ],
)
def test_wrong_class_folders(tmp_path, names, message):
    write(tmp_path, names)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, labels="folder")


def test_images_outside_the_split_have_no_class(tmp_path):
    write(tmp_path, [*classes("a", "b", within="train/"), *classes("a", "b", within="test/")])
    write(tmp_path, ["more/emu/1.png"])
    assert load(tmp_path, labels="folder").context.names == ("a", "b")
    with pytest.raises(ValueError, match="images outside them: more/emu/1.png"):
        load(tmp_path, labels="folder", split="tenth")


def test_numbers_are_in_their_order_and_counted(tmp_path):
    write(tmp_path, [*classes("9", "10", count=10), "9/more/x.png"])
    images = load(tmp_path, labels="folder")
    assert images.context.names == ("9", "10") and images.context.source == "folder"
    text = "\n".join([*images.description(), *images.notes])
    assert "labels      2 classes: 9, 10; 9 ... 10 train, 1 test images each" in text
    assert "1 image in folders inside class folders, of the outer one's class" in text
    write(tmp_path, ["10/1.png", "10/3.png"], b"no image")
    write(tmp_path, ["8/1.png", "8/3.png"], b"no image")
    text = "\n".join(load(tmp_path, labels="folder", skip_bad=True).notes)
    assert "no classes, since their images are skipped: 8" in text


def test_equal_images_of_two_classes_are_counted(tmp_path):
    write(tmp_path, classes("a", "b", "c"))
    for name in ("a/x.png", "b/x.png", "b/y.png", "c/0.png"):
        write(tmp_path, [name])  # all of the same pixels, as a/0.png
    notes = load(tmp_path, labels="folder").notes  # c/0.png, the tenth, is held out
    assert "4 training images equal to one of another class, pixel for pixel" in notes


def swapped(lines):
    return [",".join(line.split(",")[::-1]) for line in lines]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD[:3] + GOOD[4:7] + GOOD[8:], "none for 2 of 12 images, such as 3.png, 7.png"),
        ([*GOOD, "99.png,cat", "98.png,cat"], r"2 of 14 lines that name none: '99.png' \(line 13"),
        (["99.png,emu", *GOOD], r"got 1 of 13 lines that name none: '99.png' \(line 1\)"),
        (["99,cat", *GOOD], r"got 1 of 13 lines that name none: '99' \(line 1\)"),
        ([*GOOD, "1.png,dog"], "lines 2 and 13 must say the same of 1.png, got cat and dog"),
        ([*GOOD[:11], "11.png,"], "label for each image, got an empty one in 1 line: 12"),
        (swapped(GOOD), "12 of 12 lines that name none: .*; images are named such as 0.png"),
        (["file,a,b", *(f"{line},x" for line in GOOD)], "labels beside .* got columns a, b"),
        ([f"{line},x" for line in GOOD], "got 2 columns unnamed"),
        ([*GOOD[:5], "5.png,cat,dog", *GOOD[6:]], "line 6 must have 2 cells as the first, got 3"),
        (["0.png|dog", "1.png|dog"], "separated by commas, .* got '0.png|dog' alone"),
        ([], "got an empty file"),
        (["file,label"], r"got 1 of 1 line that name none: 'file' \(line 1\)"),
        ([*GOOD[:11], '11.png,"cat'], "near line 11: unexpected end of data"),
        (["x" * 200_000 + ",cat", *GOOD], "near line 1: field larger than field limit"),
        ([*GOOD[:11], "\0.png,cat"], "NUL|got 1 of 12 lines that name none"),
        ([f"../flat/{line}" for line in GOOD], "12 of 12 lines that name none"),
        ([*GOOD[:11], "11.png,\udcff"], "must be text in UTF-8"),
    ],
)
def test_wrong_tables_of_labels(flat, tmp_path, lines, message):
    (tmp_path / "labels.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        load(flat, labels=str(tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    "lines",
    [
        GOOD,
        ["file,label", *GOOD],
        ["id_code;diagnosis", *(line.replace(",", ";") for line in GOOD)],
        [*GOOD, GOOD[4]],
        ["label\tfile", *(line.replace(",", "\t") for line in swapped(GOOD))],
        [",image_name,label", *(f"{i},{line}" for i, line in enumerate(GOOD))],
    ],
)
def test_tables_of_labels(flat, tmp_path, lines):
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    images = load(flat, labels=str(tmp_path / "labels.csv"))
    assert images.context.names == ("cat", "dog") and images.context.source == "csv"
    # In the order of the paths: 0, 1, 10, 11, 2, 3 ...; the tenth, 8.png, is held out.
    assert images.context_of("train").tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1][:11]
    assert images.context_of("test").tolist() == [0]


def test_a_name_of_several_images_is_refused(tmp_path):
    write(tmp_path / "set", classes("a", "b"))
    (tmp_path / "labels.csv").write_text("a/1.png,x\n1.png,y")
    with pytest.raises(ValueError, match=r"line 2: '1.png' must name one image of .*, got 2: a/1"):
        load(tmp_path / "set", labels=str(tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,age,size", *VECTORS[:4], "4.png,nan,1", *VECTORS[5:]],
         "line 6, column 'age' must be a finite number, got 'nan'$"),
        ([*VECTORS[:4], "4.png,1,inf", *VECTORS[5:]], "line 5, column 3 .*, got 'inf'$"),
        (["file,age,size", *(f"{i}.png,{i},red" for i in range(12))],
         "line 2, column 'size' .*, got 'red'; 12 of 12 cells there are no numbers"),
        (VECTORS[1:], "must have a vector for each image, got none for 1 of 12 images"),
    ],
)  # fmt: skip
def test_wrong_tables_of_vectors(flat, tmp_path, lines, message):
    (tmp_path / "vectors.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        load(flat, context=str(tmp_path / "vectors.csv"))


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((11, 2)), ValueError, "a row for each of 12 images, all .* by path, got 11 row"),
        (np.zeros((12, 2, 2)), ValueError, r"vectors of shape \(N, D\), got \(12, 2, 2\)"),
        (np.full((12, 1), 1e300), ValueError, "finite in float32, got 1e.300 in row 0"),
        (np.array(["a"] * 12), TypeError, "must be numbers, got <U1"),
        (b"no array", ValueError, "must be an .npy of numbers: it does not begin as one"),
        ({"train_context": np.zeros((11, 2)), "test_context": np.zeros((1, 3))}, ValueError,
         "same length in each part, got {'train': 2, 'test': 3}"),
        ({"train_context": np.zeros((11, 2))}, ValueError, "arrays train_context and test_con"),
        ({"train_context": np.zeros(10), "test_context": np.zeros(1)}, ValueError,
         "train_context must have a row for each of 11 images"),
    ],
)  # fmt: skip
def test_wrong_arrays_of_vectors(flat, tmp_path, array, error, message):
    path = tmp_path / ("v.npz" if isinstance(array, dict) else "v.npy")
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif isinstance(array, dict):
        np.savez(path, **array)
    else:
        np.save(path, array)
    with pytest.raises(error, match=message):
        load(flat, context=str(path))


@pytest.mark.parametrize(
    ("names", "content", "message"),
    [
        (FLAT[:10], None, "got none for 2 of 12 images: 10.png, 11.png"),
        ([*FLAT, "12.png", "13.png"], None, "names in .*flat only, got 2 of others: 12.png, 13"),
        ([*FLAT, "3.bmp"], None, "one image of each name, got 3.bmp and 3.png"),
        (FLAT, png(2 * SIDE), "must have the size of its image, 8x8 pixels, or 1/2, .* 16x16"),
        (FLAT, png(3), "must have the size of its image, .* got 3x3"),
        (FLAT, b"no image", r"0.png is not a readable image"),
    ],
)
def test_wrong_folders_of_contexts(flat, tmp_path, names, content, message):
    write(tmp_path, names, content)
    with pytest.raises(ValueError, match=message):
        load(flat, context=str(tmp_path))


@pytest.mark.parametrize(
    ("first", "message"),
    [(png(mode="L"), r"of one kind, got grey \(0.png\) and colour \(1.png\)"),
     (png(4), r"of one share of the size, got 1/2 \(0.png\) and 1/1 \(1.png\)")],
)  # fmt: skip
def test_mixed_folders_of_contexts(flat, tmp_path, first, message):
    write(tmp_path, FLAT)
    (tmp_path / "0.png").write_bytes(first)
    with pytest.raises(ValueError, match=message):
        load(flat, context=str(tmp_path))


@pytest.mark.parametrize("crop", ["centre", "random", "stretch"])
@pytest.mark.parametrize("factor", [1, 2])
def test_contexts_are_cropped_as_their_images(tmp_path, crop, factor):
    """Images with a slope of brightness: half of the size, the context has its means."""
    for number in range(12):
        column = np.linspace(0, 255, 96 + 8 * number)
        pixels = np.broadcast_to(column, (48, len(column))).round().astype(np.uint8)
        for name, shrink in (("images", 1), ("contexts", factor)):
            (tmp_path / name).mkdir(exist_ok=True)
            small = pixels.reshape(48 // shrink, shrink, -1, shrink).mean((1, 3))
            file = tmp_path / name / f"{number}.{'png' if shrink == 1 else 'bmp'}"
            Image.fromarray(small.round().astype(np.uint8)).save(file)
    images = load(tmp_path / "images", channels=1, crop=crop, context=str(tmp_path / "contexts"))
    assert images.context.shape == (1, SIDE // factor, SIDE // factor)
    for part in ("train", "test"):
        size = SIDE // factor
        blocks = images.part(part).reshape(-1, 1, size, factor, size, factor).mean((3, 5))
        assert np.abs(blocks - images.context_of(part)).max() <= 3  # Lanczos rings


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"labels": "folders"}, FileNotFoundError, "where nothing is; did you mean 'folder'?"),
        ({"labels": "."}, ValueError, "must be folder or a CSV file, got '.'"),
        ({"context": "gray"}, FileNotFoundError, "did you mean 'grey'?"),
        ({"context": "low_resolution"}, FileNotFoundError, "did you mean 'low-resolution'?"),
        ({"context": "low-resolution 3"}, ValueError, "sides divisible by 3, got 8x8 pixels"),
        ({"context": "grey", "channels": 1}, ValueError, "grey needs colour images, got grey"),
    ],
)
def test_wrong_settings(flat, settings, error, message):
    with pytest.raises(error, match=message):
        load(flat, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "folder", "context": "grey"}, "exclude each other, got 'folder' and 'grey'"),
        ({"context": "low-resolution 1"}, "whole number from 2 on, such as 'low-resolution 4'"),
        ({"context": "low-resolution x"}, "whole number from 2 on"),
        ({"labels": " "}, "data.labels must be a word or a path, got an empty text"),
    ],
)
def test_settings_that_no_images_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**settings)
