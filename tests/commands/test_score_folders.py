"""Folders as users have them, scored: odd names, run directories, files that vanish."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowpp import score
from flowpp.config import DataConfig
from flowpp.data import unsplit
from flowpp.data.image_files import FolderFiles
from flowpp.data.listing import list_folder
from flowpp.data.unsplit import load_all
from flowpp.evaluation.score_picture import caption

GREY = (1, 8, 8)


def save(file, value=3, size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(file)


def test_odd_names_reach_csv_picture_and_receipt(tiny_run, tmp_path, recwarn):
    folder, out = tmp_path / "with space", tmp_path / "o.csv"
    names = ["a$x$\\bad$b$.png", "b/same.png", "c/same.png", 'quote",\n.png', "日本.png"]
    for value, name in enumerate(names):
        save(folder / name, value)
    os.rename(folder / "b" / "same.png", os.fsencode(folder / "b") + b"/\xff.png")
    score.main([str(tiny_run[0]), str(folder), "--out", str(out)])
    with open(out, newline="", encoding="utf-8") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert sorted(rows) == sorted([names[0], "b/\\udcff.png", *names[2:]])
    assert json.loads(out.with_suffix(".json").read_text())["data"]["count"] == 5
    assert not [str(w.message) for w in recwarn if "Glyph" in str(w.message)]
    assert caption('quote",\n.png', 1).splitlines() == ['quote",?.png', "1.000 bits/dim"]


def test_one_image_is_scored(tiny_run, tmp_path, capsys):
    save(tmp_path / "photos" / "one.png")
    save(tmp_path / "photos" / "two.png")
    out = tmp_path / "o.csv"
    score.main([str(tiny_run[0]), str(tmp_path / "photos" / "one.png"), "--out", str(out)])
    assert "bits/dim of 1 image of photos" in capsys.readouterr().out
    assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["image", "one.png"]


def test_folders_of_one_name_do_not_overwrite_each_others_scores(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run[0], tmp_path / "run")
    for place in "ab":
        save(tmp_path / place / "images" / f"{place}.png")
        score.main([str(run), str(tmp_path / place / "images")])
    first, second = run / "scores" / "images.csv", run / "scores" / "images-2.csv"
    assert first.read_text().splitlines()[1].startswith("a.png")
    assert second.read_text().splitlines()[1].startswith("b.png")
    assert second.with_suffix(".json").exists() and second.with_suffix(".png").exists()


def test_pictures_of_run_directories_are_not_the_users(tiny_run, tmp_path):
    folder = tmp_path / "photos"
    save(folder / "a.png")
    run = shutil.copytree(tiny_run[0], folder / "runs" / "mine")
    assert list(run.rglob("*.png"))
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    for path in (folder, Path(packed)):
        images = load_all(path, DataConfig(), GREY, 17)
        assert images.names == ("a.png",)
        assert images.notes == ("pictures in a run directory of this library not read",)
    assert list_folder(run / "samples").images  # asked for
    # The default output lies in such a directory, so a second time finds the same images.
    score.main([str(run), str(folder)])
    assert load_all(folder, DataConfig(), GREY, 17).names == images.names


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("images/scores.csv", "out must lie outside"),
        ("images/sub/scores.csv", "out must lie outside"),
        ("taken.csv", "out must not name the folder"),
    ],
)
def test_outputs_that_would_be_scored_or_cannot_be_written(
    tiny_run, tmp_path, monkeypatch, out, message, capsys
):
    save(tmp_path / "images" / "a.png")
    (tmp_path / "taken.png").mkdir()
    monkeypatch.setattr(score, "_scored", pytest.fail)
    with pytest.raises(SystemExit, match="2"):
        score.main([str(tiny_run[0]), str(tmp_path / "images"), "--out", str(tmp_path / out)])
    assert message in capsys.readouterr().err


def test_a_file_that_vanishes_is_named_or_skipped(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    files = FolderFiles.open(tmp_path)
    (tmp_path / "b.png").unlink()
    monkeypatch.setattr(unsplit, "open_images", lambda path: files)
    with pytest.raises(ValueError, match=r"b.png cannot be read: No such file .*; --skip-bad"):
        load_all(tmp_path, DataConfig(), GREY, 17)
    images = load_all(tmp_path, DataConfig(), GREY, 17, skip_bad=True)
    assert images.names == ("a.png",) and "cannot be read" in images.skipped["b.png"]
    assert images.notes[0].startswith("1 file skipped, the first: ")


def test_other_sizes_are_fitted_and_enlargements_counted(tmp_path):
    for index, size in enumerate([(20, 8), (8, 30), (9, 3), (1, 1)]):
        save(tmp_path / f"{index}.png", 5, size)
    images = load_all(tmp_path, DataConfig(), GREY, 17)
    assert (images.pixels == 5).all() and images.pixels.shape == (4, *GREY)
    assert images.notes == ("enlarged to the required size: 2 files",)


def test_links_in_circles_are_counted(tmp_path):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "nothing.png").symlink_to("gone.png")
    (tmp_path / "linked.png").symlink_to("a/1.png")
    images = load_all(tmp_path, DataConfig(), GREY, 17)
    assert images.names == ("a/1.png", "linked.png")
    assert images.notes == ("3 links to folders or to nothing not followed",)
    np.testing.assert_array_equal(images.pixels[0], images.pixels[1])
