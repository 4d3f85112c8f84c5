"""Folders of images: the form that is asked for, skipped files, and what a message tells."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from flowpp.config import DataConfig
from flowpp.data import folder as module
from flowpp.data.decode import Decoded, ImageError
from flowpp.data.fit import Target
from flowpp.data.folder import files, load, target_of
from flowpp.data.splits import Split

PIXELS = np.random.default_rng(0).integers(256, size=(12, 8, 10, 3), dtype=np.uint8)


def fill(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        Image.fromarray(PIXELS[row]).save(folder / f"{row:02}.png")
    return folder


def settings(path, **more):
    return DataConfig(source="folder", path=str(path), **{"size": "8x10", **more})


def test_the_form_that_is_asked_for():
    def form(**more):
        return target_of(settings("x", **more))

    assert form() == Target(8, 10, 3)
    assert form(channels=1) == Target(8, 10, 1, convert=True)
    assert form(channels=3, convert=False).convert is False
    assert form(convert=True, bits=12, crop="random") == Target(
        8, 10, 3, convert=True, bits=12, crop="random"
    )
    with pytest.raises(ValueError, match=r"^folder needs data\.size, got none$"):
        form(size=None)


def test_the_files_of_all_parts(tmp_path):
    fill(tmp_path / "train", [0, 1])
    fill(tmp_path / "test", [2])
    fill(tmp_path / "rest", [3])
    expected = ["test/02.png", "train/00.png", "train/01.png"]
    found = files(settings(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in found) == expected
    with pytest.raises(ValueError, match=r"folder needs data\.size"):
        files(settings(tmp_path, size=None))
    with pytest.raises(ValueError, match=r"folder needs data\.path: a folder of images, or a"):
        files(DataConfig(source="folder", size=8))
    with pytest.raises(ValueError, match=r"folder needs data\.path: a folder of images, or a"):
        load(DataConfig(source="folder", size=8))
    images = load(settings(tmp_path))
    assert images.name == tmp_path.name
    assert images.notes == ("1 image outside the folders of the split not used",)
    assert images.origins == {part: f"{tmp_path}/{part}" for part in ("train", "test")}
    assert images.levels == 256 and images.valid is None and images.skipped == ()
    np.testing.assert_array_equal(images.train, PIXELS[:2].transpose(0, 3, 1, 2))


def test_a_folder_without_enough_images_tells_what_it_has(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(ValueError) as refused:
        load(settings(tmp_path))
    message = str(refused.value)
    assert message.startswith(
        f"folder: {tmp_path} must have images to train on and to hold out, got 0 and 0; "
        "1 file not read: 1 .txt; known suffixes: ."
    )
    assert ", .jpeg, .jpg, " in message
    fill(tmp_path, [0])
    with pytest.raises(ValueError, match="got 0 and 1; .*; more images are needed$"):
        load(settings(tmp_path))


def test_bad_files_are_skipped_in_their_place(tmp_path):
    fill(tmp_path / "train", range(6))
    fill(tmp_path / "valid", [6, 7])
    fill(tmp_path / "test", [8, 9])
    for bad in ("train/00.png", "train/03.png", "valid/07.png"):
        (tmp_path / bad).write_bytes(b"text")
    with pytest.raises(ImageError, match=r"train/00\.png is not a readable image"):
        load(settings(tmp_path))
    images = load(settings(tmp_path, skip_bad=True))
    expected = PIXELS.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images.train, expected[[1, 2, 4, 5]])
    np.testing.assert_array_equal(images.valid, expected[[6]])
    np.testing.assert_array_equal(images.test, expected[[8, 9]])
    assert [reason.split(" is ")[0] for reason in images.skipped] == [
        str(tmp_path / name) for name in ("train/00.png", "train/03.png", "valid/07.png")
    ]


def test_a_truncated_image_is_named_with_what_to_do(tmp_path):
    """A truncated file has an intact header: only decoding finds the damage."""
    fill(tmp_path, range(12))
    file = tmp_path / "05.png"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ImageError) as refused:
        load(settings(tmp_path))
    message = str(refused.value)
    assert message.startswith(f"{file} is not a readable image: ")
    assert message.endswith("; data.skip_bad leaves such files out")
    images = load(settings(tmp_path, skip_bad=True))
    assert len(images.skipped) == 1 and len(images.train) == 10


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, path):
    fill(tmp_path, range(12))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder needs data.path: .*; got an empty text"):
        load(settings(path))


@pytest.mark.parametrize(
    ("part", "purpose"), [("train", "train on"), ("valid", "validate on"), ("test", "hold out")]
)
def test_a_part_of_bad_files_is_refused(tmp_path, part, purpose):
    for row, name in enumerate(("train", "valid", "test")):
        fill(tmp_path / name, [row])
    bad = next((tmp_path / part).iterdir())
    bad.write_bytes(b"text")
    with pytest.raises(ValueError) as refused:
        load(settings(tmp_path, skip_bad=True))
    assert str(refused.value) == (
        f"folder: at least one image to {purpose} is needed, got 0 after skipping 1"
    )


def test_facts_are_counted_over_all_parts(tmp_path):
    fill(tmp_path / "train", [0, 1])
    fill(tmp_path / "test", [2])
    images = load(settings(tmp_path, size="9x10", channels=1))
    assert images.notes == (
        "converted to the other kind, grey or colour: 3 files",
        "enlarged to the required size: 3 files",
    )


def test_notes_of_files_stay_beside_those_of_labels(tmp_path):
    for row, name in enumerate(("train/a", "train/b", "test/a")):
        fill(tmp_path / name, [2 * row, 2 * row + 1])
    (tmp_path / "a.txt").write_bytes(b"x")
    notes = load(settings(tmp_path, labels="folder")).notes
    assert notes[0] == "1 file not read: 1 .txt" and "1 class without" in notes[-1]


def test_images_of_more_than_8_bits_are_kept_in_16(tmp_path):
    for row in range(10):
        deep = PIXELS[row, ..., 0].astype(np.uint16) * 256 + row
        Image.fromarray(deep).save(tmp_path / f"{row}.png")
    images = load(settings(tmp_path, channels=1, bits=16))
    assert images.levels == 65536 and images.train.dtype == np.uint16
    assert images.train[1, 0, 0, 0] == 256 * int(PIXELS[1, 0, 0, 0]) + 1


def test_memory_is_allocated_by_the_caller(tmp_path):
    fill(tmp_path, range(10))
    asked = []

    def allocate(shape, dtype):
        asked.append((shape, dtype))
        return np.zeros(shape, dtype)

    load(settings(tmp_path, size=8), allocate)
    assert asked == [((9, 3, 8, 8), np.uint8), ((1, 3, 8, 8), np.uint8)]


def test_rows_that_are_good_move_together():
    pixels = np.arange(12).reshape(6, 2)
    moved = module._moved_together(pixels, np.array([False, True, False, True, True, False]))
    assert moved.tolist() == [[2, 3], [6, 7], [8, 9]] and np.shares_memory(moved, pixels)


def test_images_outside_the_split_are_counted():
    parts = {"train": [PurePosixPath("a.png")], "test": [PurePosixPath("b.png")]}
    assert module.split_notes(Split(parts, {}, 0)) == []
    (note,) = module.split_notes(Split(parts, {}, 1200))
    assert note == "1,200 images outside the folders of the split not used"


def test_decoded_images_are_placed_by_name(monkeypatch):
    """Archives yield images in their own order."""

    class Reversed:
        def who(self, image):
            return f"x/{image}"

        def read(self, images):
            return ((image, str(image)) for image in reversed(images))

    def fake(source, who, target):
        assert who == f"x/{source}" and target == Target(1, 1, 1)
        return Decoded(np.full((1, 1, 1), int(source)), ("turned",))

    monkeypatch.setattr(module, "decode", fake)
    facts = Counter()
    names = [PurePosixPath(str(number)) for number in range(5)]
    pixels = np.zeros((5, 1, 1, 1), np.uint8)
    read, kept = module._read(Reversed(), names, Target(1, 1, 1), pixels, None, facts)
    assert kept == names and read.ravel().tolist() == [0, 1, 2, 3, 4] and facts == {"turned": 5}
