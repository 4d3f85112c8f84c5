"""Lists of image files: order, hidden files, run directories, links and notes."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from flowpp.data.listing import Listing, is_visible, list_folder, printable


def listing(*names, **options):
    return Listing.of([PurePosixPath(name) for name in names], **options)


def test_images_are_in_the_order_of_their_parts():
    found = listing("a-b/1.png", "a/2.PNG", "a/1.jpg", "b.png", "a/b/c.webp")
    assert [str(name) for name in found.images] == [
        "a/1.jpg", "a/2.PNG", "a/b/c.webp", "a-b/1.png", "b.png",
    ]  # fmt: skip
    assert found.others == () and found.links == found.runs == 0 and found.notes() == []


def test_hidden_files_and_those_of_systems_are_left_out():
    hidden = (".x.png", "a/.b/c.png", "__MACOSX/a.png", "a/Thumbs.db", "DESKTOP.INI/a.png")
    assert listing(*hidden, "a/b.png").images == (PurePosixPath("a/b.png"),)
    assert is_visible("a.b") and not is_visible(".a") and not is_visible("@eaDir")


def test_files_of_other_kinds_are_counted():
    found = listing("b.txt", "a.TXT", "README", "x.png", links=1)
    assert [str(name) for name in found.others] == ["README", "a.TXT", "b.txt"]
    assert found.unread == {".txt": 2, "": 1}
    assert found.notes() == [
        "3 files not read: 2 .txt, 1 without a suffix",
        "1 link to folders or to nothing not followed",
    ]
    assert listing(links=2).notes() == ["2 links to folders or to nothing not followed"]


def test_pictures_of_run_directories_are_left_out():
    run = ("config.json", "environment.json", "samples/1.png")
    found = listing(*(f"a/{name}" for name in run), "b/config.json", "b/1.png", "c.png")
    assert [str(name) for name in found.images] == ["b/1.png", "c.png"] and found.runs == 1
    assert [str(name) for name in found.others] == ["b/config.json"]
    assert found.notes()[1:] == ["pictures in a run directory of this library not read"]
    two = listing(*(f"{folder}/{name}" for folder in "ab" for name in run))
    assert two.notes() == ["pictures in 2 run directories of this library not read"]
    assert len(listing(*run).images) == 1  # the listed folder itself may be one


def test_names_are_printable():
    assert printable("a\udcffé.png") == "a\\udcffé.png"
    assert printable(PurePosixPath("a/b")) == "a/b"


def test_empty_folders_are_named(tmp_path):
    """Images of a class may not have been copied."""
    for name in ("cat", "dog", "train/bird", ".git", "run/tensorboard"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("cat/1.png", "dog/.DS_Store", "run/config.json", "run/environment.json"):
        (tmp_path / name).write_bytes(b"")
    found = list_folder(tmp_path)
    assert found.notes()[-1] == "2 empty folders: dog, train/bird"
    for number in range(5):
        (tmp_path / f"e{number}").mkdir()
    assert list_folder(tmp_path).notes()[-1] == "7 empty folders: dog, e0, e1, e2, e3, ..."


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "o.png").write_bytes(b"")
    return folder


def test_links_to_files_and_to_parts_of_a_split_are_followed(tmp_path, outside):
    root = tmp_path / "set"
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "file.png").symlink_to(outside / "o.png")
    (root / "train").symlink_to(outside)
    (root / "a" / "b" / "test").symlink_to(outside)
    assert [str(name) for name in list_folder(root).images] == [
        "a/b/test/o.png", "file.png", "train/o.png",
    ]  # fmt: skip
    (root / "a" / "b" / "c" / "train").symlink_to(outside)  # too deep for a split
    (root / "cats").symlink_to(outside)
    (root / "nothing.png").symlink_to(root / "gone.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "test").symlink_to(outside / "o.txt")
    found = list_folder(root)
    assert len(found.images) == 3 and found.links == 5


def test_links_to_a_folder_above_are_not_followed(tmp_path):
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"")
    (root / "a" / "train").symlink_to(root)
    (root / "a" / "test").symlink_to(root / "a")
    found = list_folder(root)
    assert [str(name) for name in found.images] == ["a/1.png"] and found.links == 2


def test_hidden_folders_are_not_entered(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "1.png").write_bytes(b"")
    (tmp_path / "1.png").write_bytes(b"")
    assert list_folder(tmp_path) == listing("1.png")
