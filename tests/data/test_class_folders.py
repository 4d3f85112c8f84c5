"""Classes by folders: the same for training and for images that a model is used on."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from flowpp.data.class_folders import class_folders, known_class_folders


@pytest.mark.parametrize(
    "layout",
    [
        "cat/1 dog/1",
        "cat/dog/1 cat/2 dog/1",  # the outer class
        "train/bus/1 train/train/1 test/bus/2 test/train/2",  # a class called as a split
        "train/a/cat/1 train/a/dog/1 val/a/cat/2 val/a/dog/2",
    ],
)
def test_classes_are_those_of_training(layout):
    images = [PurePosixPath(f"{name}.png") for name in layout.split()]
    trained, _ = class_folders("data", images, images)
    assert known_class_folders("data", images, sorted({*trained})) == trained


def test_images_in_no_class_folder_have_that_of_all():
    images = [PurePosixPath(name) for name in ("cat/1.png", "2.png", "other/3.png")]
    assert known_class_folders("/x/dog", images, ("cat", "dog")) == ["cat", "dog", "dog"]
    assert known_class_folders("/x/all", images, ("cat", "dog")) == ["cat", None, None]
    split = [PurePosixPath(name) for name in ("train/cat/1.png", "test/cat/2.png", "dog/3.png")]
    assert known_class_folders("/x", split, ("cat", "dog")) == ["cat", "cat", "dog"]
