"""Images in archives, arrays and parquet files are those of the same images in a folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.presets import SMALL
from flowpp.data.autoconfig import configure

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(24, 16, 24, 3), dtype=np.uint8)
SPLIT = {"Train": range(16), "val": range(16, 20), "test": range(20, 24)}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def load(path, **settings):
    settings = {"size": 16, **settings}
    return data.load(DataConfig(source="folder", path=str(path), **settings))


FILES = {f"set/{part}/{i:02}.png": png(PIXELS[i]) for part, rows in SPLIT.items() for i in rows}
OTHERS = {"set/README": b"x", "__MACOSX/set/train/._a.png": b"x", "set/.hidden/a.png": b"x"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name, content in {**FILES, **OTHERS}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return load(folder)


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def write_tar(path, files, mode):
    with tarfile.open(path, f"w:{mode}") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "stored"])
def test_archives(tmp_path, expected, kind):
    reverse = dict(reversed({**FILES, **OTHERS}.items()))
    if kind in ("zip", "stored"):
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        path = write_zip(tmp_path / "set.zip", reverse, method)
    else:
        path = write_tar(tmp_path / f"set.{kind}", reverse, kind[4:])
    images = load(path)
    assert images.sha256 == expected.sha256 and images.name == "set"
    assert len(images.train) == 16 and images.valid is not None and len(images.test) == 4
    assert images.origins["train"] == f"{path}/set/Train"
    assert images.notes == expected.notes == ("1 file not read: 1 without a suffix",)
    config, notes = configure(replace(SMALL, data=DataConfig(source="folder", path=str(path))))
    assert config.data.size == 16 and notes[0].startswith("24 colour images, shorter sides of 16")


def test_a_bad_file_in_an_archive_is_named_or_skipped(tmp_path):
    path = write_zip(tmp_path / "set.zip", {**FILES, "set/Train/bad.png": b"text"})
    with pytest.raises(ValueError, match="set.zip/set/Train/bad.png is not a readable image"):
        load(path)
    images = load(path, skip_bad=True)
    assert len(images.skipped) == 1 and len(images.train) == 16


def test_a_damaged_member_of_an_archive_is_named_or_skipped(tmp_path, expected):
    """A member with a wrong checksum; the others are intact."""
    bad = b"content that will be damaged"
    path = write_zip(tmp_path / "set.zip", {**FILES, "set/Train/bad.png": bad}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    assert content.count(bad) == 1
    path.write_bytes(content.replace(bad, bad.upper()))
    with pytest.raises(ValueError, match=r"Train/bad.png is damaged: Bad CRC-32.*skip_bad leaves"):
        load(path)
    images = load(path, skip_bad=True)
    assert len(images.skipped) == 1 and images.sha256 == expected.sha256
    config = DataConfig(source="folder", path=str(path), skip_bad=True)
    assert configure(replace(SMALL, data=config))[0].data.size == 16


def arrays(layout="NHWC", kind=np.uint8):
    pixels = PIXELS.astype(kind)
    return pixels if layout == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def write_arrays(path, named):
    """Write arrays by name to a file whose suffix says how."""
    if path.suffix == ".npy":
        np.save(path, next(iter(named.values())))
    elif path.suffix == ".npz":
        np.savez(path, **named)
    elif path.suffix == ".safetensors":
        save_file(named, path)
    else:
        tensors = {name: torch.from_numpy(array) for name, array in named.items()}
        torch.save(tensors if len(tensors) > 1 else next(iter(tensors.values())), path)
    return path


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".safetensors"])
def test_a_single_array(tmp_path, suffix, layout):
    images = load(write_arrays(tmp_path / f"x{suffix}", {"images": arrays(layout)}))
    chosen = np.delete(np.arange(24), [9, 19])
    np.testing.assert_array_equal(images.train, PIXELS[chosen, :, 4:20].transpose(0, 3, 1, 2))
    assert len(images.test) == 2 and images.name == "x" and not images.notes
    assert f"every tenth of {tmp_path}/x{suffix}" in images.origins["test"]


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("name", ["{}", "x_{}", "{}_images", "images_{}"])
def test_arrays_named_by_split(tmp_path, expected, suffix, name):
    named = {name.format(part.lower()): PIXELS[list(rows)] for part, rows in SPLIT.items()}
    named["y_train"] = np.arange(16)
    images = load(write_arrays(tmp_path / f"x{suffix}", named))
    assert images.sha256 == expected.sha256
    assert images.origins["train"].endswith(name.format("train"))


def test_a_tuple_of_images_and_labels(tmp_path):
    torch.save((torch.from_numpy(PIXELS[..., 0]), torch.arange(24)), tmp_path / "training.pt")
    images = load(tmp_path / "training.pt", channels=1)
    assert images.shape == (1, 16, 16) and len(images.train) == 22


@pytest.mark.parametrize("shape", [(24, 16, 16), (24, 16, 16, 1), (24, 1, 16, 16)])
def test_grey_arrays(tmp_path, shape):
    grey = PIXELS[:, :, 4:20, 0]
    np.save(tmp_path / "x.npy", grey.reshape(shape))
    config, _ = configure(
        replace(SMALL, data=DataConfig(source="folder", path=str(tmp_path / "x.npy")))
    )
    assert config.data.channels == 1
    np.testing.assert_array_equal(data.load(config.data).train[0, 0], grey[0])


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_in_arrays(tmp_path, order):
    deep = RNG.integers(65536, size=(24, 16, 16, 3)).astype(f"{order}u2")
    np.save(tmp_path / "x.npy", deep)
    with pytest.raises(ValueError, match="data.bits 16 keeps them, data.bits 8 keeps"):
        load(tmp_path / "x.npy")
    images = load(tmp_path / "x.npy", bits=16)
    assert images.levels == 65536
    np.testing.assert_array_equal(images.train[3], deep[3].transpose(2, 0, 1))
    np.testing.assert_array_equal(
        load(tmp_path / "x.npy", bits=8).train[3], (deep[3] >> 8).transpose(2, 0, 1)
    )
    grey = load(tmp_path / "x.npy", bits=16, channels=1).train[0, 0]
    assert np.abs(grey - deep[0] @ [0.299, 0.587, 0.114]).max() < 0.6
    small = load(tmp_path / "x.npy", bits=16, size=8).train[0]
    assert np.abs(small.mean() - deep[0].mean()) < 600
    config, _ = configure(
        replace(SMALL, data=DataConfig(source="folder", path=str(tmp_path / "x.npy"), bits=16))
    )
    assert (config.data.channels, config.data.size) == (3, 16)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((9, 8, 8, 3)), TypeError, r"got float64; values in \[0, 1\] become levels"),
        (np.zeros((9, 8, 8, 3), np.int64), TypeError, "got int64; convert with"),
        (np.zeros((9, 8, 8), bool), TypeError, "got bool"),
        (np.zeros((9, 8, 8, 4), np.uint8), ValueError, r"4 channels; drop .* array\[..., :3\]"),
        (np.zeros((9, 4, 8, 8), np.uint8), ValueError, r"4 channels; drop .* array\[:, :3\]"),
        (np.zeros((9, 8, 8, 2), np.uint8), ValueError, r"2 channels; drop .* array\[..., :1\]"),
        (np.zeros((9, 3, 8, 3), np.uint8), ValueError, "channels first or last"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"looks like one image \(H, W, C\)"),
        (np.zeros((9, 64), np.uint8), ValueError, r"must have an array of images, \(N, H, W\)"),
        (np.zeros((0, 8, 8), np.uint8), ValueError, "must not be empty"),
    ],
)
def test_arrays_that_are_no_images_say_what_to_do(tmp_path, array, error, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(error, match=message):
        load(tmp_path / "x.npy")


def test_images_that_were_scaled_before_they_became_integers(tmp_path):
    """Floats in [0, 1] as uint8 are nearly all 0; 12-bit images in 16 bits use a sixteenth."""
    note = "training images have no value above {} of {}: they may have been scaled to [0, 1]"
    for array, top, full, bits in (
        ((PIXELS / 255).astype(np.uint8), "1", "255", None),
        (PIXELS.astype(np.uint16) << 4, "4,080", "65,535", 16),
    ):
        np.save(tmp_path / "x.npy", array)
        notes = load(tmp_path / "x.npy", bits=bits).notes
        assert any(line.startswith(note.format(top, full)) for line in notes)
    np.save(tmp_path / "x.npy", PIXELS)
    assert not any("scaled" in line for line in load(tmp_path / "x.npy").notes)


def test_several_arrays_without_a_split_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", cats=PIXELS, dogs=PIXELS)
    with pytest.raises(ValueError, match="arrays named train and test, got cats, dogs"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", train=PIXELS, extra_train=PIXELS)
    with pytest.raises(ValueError, match="training images, train, but no images to hold out"):
        load(tmp_path / "x.npz")


def test_code_in_a_torch_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    torch.save(Evil(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt is damaged or holds more than arrays"):
        load(tmp_path / "x.pt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 damaged", b"\x1f\x8b damaged",
                                     b"PAR1 damaged", b"\x93NUMPY damaged"])  # fmt: skip
def test_other_and_damaged_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match="x.bin"):
        load(tmp_path / "x.bin")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="x.zip is not a folder, and no file"):
        load(tmp_path / "x.zip")


def write_parquet(path, rows, column="image", **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.table({column: rows, **columns}), path)
    return path


def test_parquet_files_of_hugging_face(tmp_path, expected):
    for part, rows in (("train", SPLIT["Train"]), ("validation", SPLIT["val"]),
                       ("test", SPLIT["test"])):  # fmt: skip
        halves = [list(rows)[: len(rows) // 2], list(rows)[len(rows) // 2 :]]
        for number, half in enumerate(halves):
            images = [{"bytes": png(PIXELS[i]), "path": f"{i}.png"} for i in half]
            write_parquet(
                tmp_path / "set" / "data" / f"{part}-{number:05}-of-00002.parquet",
                images, label=list(half),
            )  # fmt: skip
    images = load(tmp_path / "set")
    assert images.sha256 == expected.sha256 and images.name == "set"
    assert "data/train" in images.origins["train"]


def test_one_parquet_file(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [png(p) for p in PIXELS], "jpg",
                         mask=[b"x"] * 24)  # fmt: skip
    assert len(load(path).train) == 22
    for column, more in (("two", {"one": [b"x"] * 24}), ("numbers", {})):
        rows = [b"x"] * 24 if more else list(range(24))
        path = write_parquet(tmp_path / "y.parquet", rows, column, **more)
        with pytest.raises(ValueError, match="one column of image files"):
            load(path)


def test_without_pyarrow_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1PAR1")
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install 'flowpp\[parquet\]'"):
        load(tmp_path / "x.parquet")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_bytes(b"PAR1PAR1")
    with pytest.raises(ValueError, match="needs pyarrow"):
        load(tmp_path / "set")
