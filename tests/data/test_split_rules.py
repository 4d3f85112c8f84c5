"""Which paths are for training, validation and test: the rules of `data.split`, without files."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from flowpp.data.split_names import role_of
from flowpp.data.splits import split


def paths(*names):
    return [PurePosixPath(name) for name in names]


def parts(names, rule="auto"):
    found = split("set", paths(*names), rule)
    return {role: [str(path) for path in part] for role, part in found.parts.items()}, found


def numbered(count):
    return [f"{number:02}.png" for number in range(count)]


@pytest.mark.parametrize(("rule", "n"), [("auto", 10), ("tenth", 10), ("fifth", 5)])
def test_every_nth_image_is_held_out(rule, n):
    names = numbered(23)
    divided, found = parts(names, rule)
    held_out = names[n - 1 :: n]
    assert divided == {"train": [x for x in names if x not in held_out], "test": held_out}
    word = {10: "tenth", 5: "fifth"}[n]
    assert found.origins == {
        "train": f"all but every {word} of set, in the order of their paths",
        "test": f"every {word} of set, in the order of their paths",
    }
    assert found.unused == 0


def test_of_few_images_the_last_is_held_out():
    assert parts(numbered(3))[0] == {"train": ["00.png", "01.png"], "test": ["02.png"]}
    assert parts(numbered(1))[0] == {"train": [], "test": ["00.png"]}
    assert parts([])[0] == {"train": [], "test": []}


def test_rules_other_than_auto_ignore_folders():
    names = [f"{folder}/{n}.png" for folder in ("test", "train") for n in range(5)]
    divided, _ = parts(names, "fifth")
    assert divided["test"] == ["test/4.png", "train/4.png"]


def test_three_folders_and_what_is_in_none():
    names = ["a.png", "more/b.png", "test/c.png", "train/d.png", "train/x/e.png", "val/f.png"]
    divided, found = parts(names)
    assert divided == {"train": names[3:5], "valid": names[5:], "test": names[2:3]}
    assert found.origins == {"train": "set/train", "valid": "set/val", "test": "set/test"}
    assert found.unused == 2


def test_validation_images_are_the_test_images_of_two_folders():
    divided, found = parts(["train/a.png", "val/b.png"])
    assert divided == {"train": ["train/a.png"], "test": ["val/b.png"]}
    assert found.origins == {"train": "set/train", "test": "set/val"} and found.unused == 0


def test_folders_of_several_parents():
    names = [f"{kind}/{part}/1.png" for kind in "abc" for part in ("train", "test")]
    divided, found = parts(names)
    assert divided == {"train": names[::2], "test": names[1::2]}
    assert found.origins["train"] == "set/a/train and 2 others"
    assert found.origins["test"] == "set/a/test and 2 others"
    _, two = parts(names[:4])
    assert two.origins["test"] == "set/a/test and 1 other"


@pytest.mark.parametrize(("depth", "is_split"), [(0, True), (1, True), (2, True), (3, False)])
def test_folders_up_to_three_levels_down(depth, is_split):
    above = "/".join(["x"] * depth) + "/" * bool(depth)
    divided, _ = parts([f"{above}test/1.png", f"{above}train/2.png"])
    assert divided["test"] == [f"{above}{'test/1.png' if is_split else 'train/2.png'}"]


def test_names_of_files_are_no_split():
    divided, _ = parts(["test.png", "train.png"])
    assert divided == {"train": ["test.png"], "test": ["train.png"]}


def test_names_with_further_words():
    """They count beside a training folder with the same words, and where none is plain."""
    names = ["D_train_HR/1.png", "D_train_LR/2.png", "D_valid_HR/3.png", "my test/4.png"]
    divided, found = parts(names)
    assert divided == {"train": names[:1], "test": names[2:3]} and found.unused == 2
    plain = ["D_train_HR/1.png", "D_valid_HR/2.png", "test/3.png", "train/4.png"]
    assert parts(plain)[0] == {"train": plain[3:], "test": plain[2:3]}
    unrelated = ["a_test_x/1.png", "b_valid_x/2.png", "c_train_y/3.png"]
    assert parts(unrelated)[0] == {"train": unrelated[:2], "test": unrelated[2:]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1", "Train/2", "test/3"],
         "^folder: set must have one folder of training images, got train and Train; rename or"),
        (["a/val/1", "a/dev/2", "a/train/3"],
         "must have one folder of validation images, got a/val and a/dev; rename or move all"),
        (["val/1", "test/2"], "^folder: set has images to hold out, val and test, but no folder"),
        (["train/1", "x/2"], "^folder: set has training images, train, but no images to hold out"),
        (["a/train/1", "x/2"], "or set data.path to a/train alone; data.split 'tenth' holds out"),
        (["a/train/1", "a/test/2", "b/train/3", "b/val/4"],
         "^folder: set must have the same kinds of split everywhere, got "
         r"a/train \+ a/test and b/train \+ b/val; data.split 'tenth' holds out every tenth of"),
    ],
)  # fmt: skip
def test_ambiguous_folders(names, message):
    with pytest.raises(ValueError, match=message):
        split("set", paths(*names), "auto")


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("train", ("train", ())), ("TRN", ("train", ())), ("trainingSet", ("train", ())),
        ("val_64x64", ("valid", ())), ("Val64 X 64", ("valid", ())), ("devel", ("valid", ())),
        ("tests", ("test", ())), ("evalSplit", ("test", ())), ("held-out", ("test", ())),
        ("hold_out", ("test", ())), ("x_train", ("train", ())), ("x_hold_out", ("test", ())),
        ("train 32 x 32 HR", ("train", ("hr",))), ("pics train", ("train", ())),
        ("cats train dogs", ("train", ("cats", "dogs"))), ("trainA", ("train", ("a",))),
        ("train_val", None), ("testtube", None), ("uphold out", None), ("images", None),
    ],
)  # fmt: skip
def test_meanings_of_names(name, meaning):
    assert role_of(name) == meaning
