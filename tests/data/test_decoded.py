"""Images decoded once: the same images, from a file that is made again if anything is wrong."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import decoded, folder

RESIDENT = Path(__file__).parents[1] / "helpers" / "resident.py"
COUNTS = {"train": 7, "valid": 3}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_tar(path, count, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    with tarfile.open(path, "w") as tar:
        for i in reversed(range(count)):
            raw = png(pixels[i])
            member = tarfile.TarInfo(f"{i:05}.png")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Settings of a small downsampled ImageNet that counts as large."""
    monkeypatch.delenv("FLOWPP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "LARGE", 0)
    source = tmp_path / "data" / "imagenet"
    source.mkdir(parents=True)
    for seed, (split, count) in enumerate(COUNTS.items()):
        write_tar(source / f"{split}_32x32.tar", count, seed)
    return DataConfig(source="imagenet32", path=str(source), partial=True)


def kept(config):
    """Return the only folder of decoded images beside the data."""
    (found,) = (
        path for path in (Path(config.path).parent / decoded.NAME).iterdir() if path.is_dir()
    )
    return found


def in_memory(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "LARGE", 1 << 62)
        return data.load(config)


def is_mapped(array):
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


@pytest.mark.parametrize("changes", [{}, {"bits": 5}, {"size": 8}, {"size": 16, "bits": 3}])
def test_the_images_are_those_decoded_into_memory(archives, monkeypatch, capsys, changes):
    config = dataclasses.replace(archives, **changes)
    expected = in_memory(config, monkeypatch)
    capsys.readouterr()
    for turn in ("written", "read"):
        images = data.load(config)
        assert is_mapped(images.train) and is_mapped(images.test)
        assert (images.name, images.levels, images.sha256) == (
            expected.name, expected.levels, expected.sha256,
        )  # fmt: skip
        np.testing.assert_array_equal(images.train, expected.train)
        assert ("decoding 2 files" in capsys.readouterr().err) == (turn == "written")
    assert sorted(p.name for p in kept(config).iterdir()) == [
        "images.json", "test.npy", "train.npy",
    ]  # fmt: skip


def test_small_sets_are_decoded_into_memory(archives, monkeypatch):
    monkeypatch.setattr(decoded, "LARGE", 1 << 20)
    assert not is_mapped(data.load(archives).train)
    assert not (Path(archives.path).parent / decoded.NAME).exists()


def test_a_changed_source_is_decoded_again_in_the_same_place(archives, monkeypatch, capsys):
    former, place = data.load(archives), kept(archives)
    write_tar(Path(archives.path) / "train_32x32.tar", 9, seed=5)
    images = data.load(archives)
    assert "its source has changed" in capsys.readouterr().err
    assert images.sha256 == in_memory(archives, monkeypatch).sha256 != former.sha256
    assert kept(archives) == place
    np.testing.assert_array_equal(former.train, former.train)  # its mapping is still there


def damage_values(place):
    with (place / "train.npy").open("rb+") as file:
        file.seek(-5, os.SEEK_END)
        value = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([value ^ 1]))


def damage_facts(place, **changes):
    facts = json.loads((place / "images.json").read_text())
    (place / "images.json").write_text(json.dumps({**facts, **changes}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_values, "its hash does not match"),
        (lambda p: os.truncate(p / "train.npy", 5000), "damaged"),
        (lambda p: os.truncate(p / "test.npy", 0), "damaged"),
        (lambda p: (p / "test.npy").unlink(), "it has no test.npy"),
        (lambda p: (p / "images.json").unlink(), "it has no images.json"),
        (lambda p: (p / "images.json").write_text("{"), "damaged"),
        (lambda p: (p / "images.json").write_text("[]"), "damaged"),
        (lambda p: damage_facts(p, train=3), "its hash does not match"),
        (lambda p: damage_facts(p, levels=17), "damaged"),
        (lambda p: np.save(p / "train.npy", np.array([{}], object), allow_pickle=True), "damaged"),
    ],
)
def test_damaged_images_are_decoded_again(archives, capsys, damage, reason):
    sha256 = data.load(archives).sha256
    damage(kept(archives))
    capsys.readouterr()
    assert data.load(archives).sha256 == sha256
    error = capsys.readouterr().err
    assert reason in error and "decoding 2 files" in error
    data.load(archives)
    assert not capsys.readouterr().err


def test_an_interrupted_decoding_leaves_nothing(archives, monkeypatch):
    def interrupted(config, allocate):
        allocate((4, 3, 32, 32))[:] = 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data.importlib.import_module("flowpp.data.imagenet"), "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.load(archives)
    base = Path(archives.path).parent / decoded.NAME
    assert not [path for path in base.iterdir() if path.is_dir()]
    # One that was killed could not remove its files: the next one does.
    (base / f".{decoded._key(archives)}.1.part").mkdir()
    data.load(archives)
    assert [path.name for path in base.iterdir() if path.is_dir()] == [decoded._key(archives)]


def test_what_a_killed_process_left_of_another_data_set_is_removed(archives):
    """What a living process is writing stays: it holds a lock."""
    base = Path(archives.path).parent / decoded.NAME
    base.mkdir()
    for name in ("killed", "living"):
        (base / f".{name}.node.1.part").mkdir()
        (base / f".{name}.lock").touch()
    with decoded._locked(base / "living"):
        data.load(archives)
    left = {path.name for path in base.iterdir() if path.is_dir()}
    assert left == {decoded._key(archives), ".living.node.1.part"}


def test_a_damaged_description_of_decoded_images(archives):
    data.load(archives)
    place = kept(archives)
    facts = json.loads((place / "images.json").read_text())
    for harm in ({"origins": [1]}, {"notes": 3}, {"sha256": None}, {"name": ["a"]}):
        (place / "images.json").write_text(json.dumps({**facts, **harm}))
        assert data.load(archives).sha256 == facts["sha256"]
    facts.pop("sha256")
    (place / "images.json").write_text(json.dumps(facts))
    assert len(data.load(archives).train)
    (place / "train.npy").unlink()
    os.mkfifo(place / "train.npy")
    assert len(data.load(archives).train)


def test_a_file_system_without_locks_suffices(archives, monkeypatch):
    import fcntl

    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    sha256, place = data.load(archives).sha256, kept(archives)
    # Another process that decodes at the same time ends first.
    (place / "images.json").unlink()
    write = decoded.flush

    def slowly(path):
        if path.name == "test.npy":
            with monkeypatch.context() as patch:
                patch.setattr(decoded, "flush", write)
                patch.setattr(decoded.os, "getpid", lambda: 1)
                assert data.load(archives).sha256 == sha256
            patched = decoded.shutil.rmtree
            monkeypatch.setattr(
                decoded.shutil, "rmtree", lambda p, **k: p == place or patched(p, **k)
            )
        write(path)

    monkeypatch.setattr(decoded, "flush", slowly)
    assert data.load(archives).sha256 == sha256


def test_a_full_disk_is_said_and_decoded_into_memory(archives, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda path: usage(1, 0, 20_000))
    images = data.load(archives)
    assert "needs 21,504 bytes, 20,000 are free" in capsys.readouterr().err
    assert not is_mapped(images.train) and len(images.train) == COUNTS["train"]


def test_the_place_is_the_cache_where_the_data_is_read_only(
    archives, tmp_path, monkeypatch, capsys
):
    beside = Path(archives.path).parent / decoded.NAME
    monkeypatch.setattr(decoded, "_is_writable", lambda f: f.parent != beside and _made(f.parent))
    assert is_mapped(data.load(archives).train)
    assert (tmp_path / "cache" / "flowpp" / decoded.NAME).is_dir() and not beside.exists()
    capsys.readouterr()
    monkeypatch.setattr(decoded, "_is_writable", lambda folder: False)
    assert is_mapped(data.load(archives).train)  # reading needs no permission to write
    changed = dataclasses.replace(archives, bits=4)
    assert not is_mapped(data.load(changed).train)
    assert "none of" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "lock"])
def test_what_another_user_has_left_is_not_written_to(archives, tmp_path, monkeypatch, name):
    data.load(archives)
    place = kept(archives)
    damage_values(place)
    others = place if name == "folder" else place.with_name(f".{place.name}.lock")
    access = os.access
    monkeypatch.setattr(decoded.os, "access", lambda p, m: p != others and access(p, m))
    before = (place / "train.npy").read_bytes()
    assert data.load(archives).sha256 == in_memory(archives, monkeypatch).sha256
    assert (place / "train.npy").read_bytes() == before
    assert (tmp_path / "cache" / "flowpp" / decoded.NAME / place.name).is_dir()


def test_a_quota_is_said_and_decoded_into_memory(archives, monkeypatch, capsys):
    def refused(*arguments, **options):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(decoded.np.lib.format, "open_memmap", refused)
    assert not is_mapped(data.load(archives).train)
    assert "Disk quota exceeded" in capsys.readouterr().err


def test_files_of_a_killed_process_with_the_same_number_are_replaced(archives, monkeypatch):
    import fcntl

    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    name = f".{decoded._key(archives)}.{decoded.platform.node()}.{os.getpid()}.part"
    left = Path(archives.path).parent / decoded.NAME / name
    left.mkdir(parents=True)
    (left / "array-0.npy").touch()
    assert is_mapped(data.load(archives).train) and not left.exists()


def _made(base):
    base.mkdir(parents=True, exist_ok=True)
    return True


def test_the_cache_folder_of_the_environment_wins(archives, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "own"))
    data.load(archives)
    assert (tmp_path / "own" / decoded.NAME).is_dir()
    assert not (Path(archives.path).parent / decoded.NAME).exists()


def test_a_folder_with_bad_files_keeps_their_reasons(archives, tmp_path, monkeypatch):
    source = tmp_path / "photos"
    source.mkdir()
    for i in range(20):
        write = png(np.full((9, 8, 3), i, np.uint8)) if i % 7 else b"not an image"
        (source / f"{i:02}.png").write_bytes(write)
    config = DataConfig(source="folder", path=str(source), size=8, skip_bad=True)
    expected = in_memory(config, monkeypatch)
    for _ in range(2):
        images = data.load(config)
        assert images.skipped == expected.skipped and len(images.skipped) == 3
        assert images.sha256 == expected.sha256
    with pytest.raises(ValueError, match="00.png is not a readable image"):
        data.load(dataclasses.replace(config, skip_bad=False))
    relative = dataclasses.replace(config, path=os.path.relpath(source))
    with monkeypatch.context() as patch:  # the same folder, named in another way
        patch.setattr(folder, "load", None)
        assert data.load(relative).sha256 == expected.sha256


def test_two_processes_share_the_images(archives, tmp_path, monkeypatch):
    """Neither needs memory of its own for them, and only one decodes."""
    rows = np.random.default_rng(0).integers(0, 256, (4000, 3072), dtype=np.uint8)
    for i in range(1, 11):
        np.savez(Path(archives.path) / f"train_data_batch_{i}.npz", data=rows)
    np.savez(Path(archives.path) / "val_data.npz", data=rows[:100])
    processes = [
        subprocess.Popen(
            [sys.executable, RESIDENT, "imagenet32", archives.path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [process.communicate(timeout=300) for process in processes]
    assert all(process.returncode == 0 for process in processes), ended
    assert sorted(error.count("decoding 11 files") for _, error in ended) == [0, 1]
    results = [json.loads(output) for output, _ in ended]
    assert results[0]["sha256"] == results[1]["sha256"]
    assert results[0]["images"] == 40_100 * 3072
    for result in results:
        assert result["peak"] < 0.7 * result["images"]


def test_three_parts_of_16_bits_are_kept_with_their_notes(archives, tmp_path, monkeypatch):
    source, rng = tmp_path / "deep", np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 3), ("test", 2)):
        (source / part).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(65536, size=(8, 8)).astype(np.uint16)
            Image.fromarray(pixels).save(source / part / f"{i}.png")
    (source / "README.txt").touch()
    config = DataConfig(source="folder", path=str(source), size=8, channels=1, bits=12)
    expected = in_memory(config, monkeypatch)
    for _ in range(2):
        images = data.load(config)
        assert images.sha256 == expected.sha256 and images.train.dtype == np.uint16
        assert images.valid is not None and is_mapped(images.valid) and len(images.valid) == 3
        assert images.notes == expected.notes == ("1 file not read: 1 .txt",)
        assert images.description() == expected.description()
