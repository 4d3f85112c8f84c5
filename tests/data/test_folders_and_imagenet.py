"""Folders of images, downsampled ImageNet in both versions, fewer bits and smaller images."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data.image_set import ImageSet
from flowpp.data.reduce import reduce_bits, reduce_size

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(256, size=(height, width, 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_is_resized_cut_square_and_split(tmp_path):
    for i in range(20):
        Image.fromarray(picture(30 + i, 40)).save(tmp_path / f"{i:02}.{'png' if i % 2 else 'jpg'}")
    images = data.load(DataConfig(source="folder", path=str(tmp_path), size=16))
    assert images.train.shape == (18, 3, 16, 16)
    assert images.test.shape == (2, 3, 16, 16)


def test_a_square_image_of_the_right_size_is_kept_pixel_for_pixel(tmp_path):
    pixels = picture(16, 16)
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(png(pixels))
    images = data.load(DataConfig(source="folder", path=str(tmp_path), size=16))
    np.testing.assert_array_equal(images.train[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(images.test[0], pixels.transpose(2, 0, 1))


def test_a_damaged_image_is_named(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(picture(8, 8)))
    (tmp_path / "1.png").write_bytes(png(picture(64, 64))[:200])
    with pytest.raises(ValueError, match=r"1\.png is not a readable image"):
        data.load(DataConfig(source="folder", path=str(tmp_path), size=8))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (DataConfig(source="folder"), ValueError, "folder needs data.path: .* got none"),
        (DataConfig(source="folder", path="/none", size=8), FileNotFoundError, "/none is not a f"),
        (DataConfig(source="folder", path="/"), ValueError, "folder needs data.size, got none"),
        (DataConfig(source="imagenet32"), ValueError, "imagenet32 needs data.path"),
        (DataConfig(source="imagenet64", path="/none"), FileNotFoundError, "/none is not a f"),
        (DataConfig(source="digits", path="x"), ValueError, "data.path is not used by .*'digits'"),
        (DataConfig(source="digits", bits=5), ValueError, "256 levels, got digits with 17"),
        (DataConfig(source="photos", size=7), ValueError, "divisible by 7, got photos with 32x32"),
    ],
)
def test_invalid_settings_are_refused(config, error, message):
    with pytest.raises(error, match=message):
        data.load(config)


def test_an_unknown_format_is_named(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"0\.png is not a readable image: unknown format"):
        data.load(DataConfig(source="folder", path=str(tmp_path), size=8))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 0 and 0"):
        data.load(DataConfig(source="folder", path=str(tmp_path), size=8))


def write_archives(folder, side=32, counts=(3, 2)):
    expected = {}
    for split, count in zip(("train", "valid"), counts, strict=True):
        stem = f"{split}_{side}x{side}"
        expected[split] = [picture(side, side) for _ in range(count)]
        with tarfile.open(folder / f"{stem}.tar", "w") as tar:
            for i in reversed(range(count)):  # published archives are unordered too
                raw = png(expected[split][i])
                member = tarfile.TarInfo(f"{stem}/{i:05}.png")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    return expected


def test_png_archives(tmp_path):
    expected = write_archives(tmp_path)
    images = data.load(DataConfig(source="imagenet32", path=str(tmp_path), partial=True))
    assert images.name == "imagenet32 (PNG archives of 2016, partial)"
    for i, pixels in enumerate(expected["train"]):
        np.testing.assert_array_equal(images.train[i], pixels.transpose(2, 0, 1))


def test_npz_batches(tmp_path):
    rows = RNG.integers(256, size=(5, 3072), dtype=np.uint8)
    np.savez(tmp_path / "train_data_batch_1.npz", data=rows, labels=np.zeros(5))
    np.savez(tmp_path / "val_data.npz", data=rows[:2], labels=np.zeros(2))
    images = data.load(DataConfig(source="imagenet32", path=str(tmp_path), partial=True))
    assert images.name == "imagenet32 (npz batches of 2017, partial)"
    np.testing.assert_array_equal(images.train[1].ravel(), rows[1])
    with pytest.raises(FileNotFoundError, match="train_data_batch_2.npz"):
        data.load(DataConfig(source="imagenet32", path=str(tmp_path)))


def test_a_missing_image_is_refused(tmp_path):
    write_archives(tmp_path)
    with pytest.raises(ValueError, match="must have 1281149 train images, got 3"):
        data.load(DataConfig(source="imagenet32", path=str(tmp_path)))


def test_a_truncated_archive_and_a_wrong_size_are_refused(tmp_path):
    write_archives(tmp_path, side=32)
    whole = (tmp_path / "train_32x32.tar").read_bytes()
    (tmp_path / "train_32x32.tar").write_bytes(whole[:1500])
    with pytest.raises(ValueError, match="train_32x32.tar|not a readable image"):
        data.load(DataConfig(source="imagenet32", path=str(tmp_path), partial=True))
    for split in ("train", "valid"):
        (tmp_path / f"{split}_64x64").mkdir()
        (tmp_path / f"{split}_64x64" / "a.png").write_bytes(png(picture(32, 32)))
    with pytest.raises(ValueError, match="imagenet64: .* must have 64x64 pixels, got 32x32"):
        data.load(DataConfig(source="imagenet64", path=str(tmp_path), partial=True))


def test_a_damaged_batch_is_refused(tmp_path):
    np.savez(tmp_path / "train_data_batch_1.npz", data=np.zeros((2, 3072), np.uint8))
    (tmp_path / "val_data.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(ValueError, match="val_data.npz is damaged"):
        data.load(DataConfig(source="imagenet32", path=str(tmp_path), partial=True))
    np.savez(tmp_path / "val_data.npz", data=np.zeros((2, 12288), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(N, 3072\), got uint8 \(2, 12288\)"):
        data.load(DataConfig(source="imagenet32", path=str(tmp_path), partial=True))


def small_set(pixels: np.ndarray) -> ImageSet:
    return ImageSet("set", pixels, pixels, 256)


def test_the_highest_bits_are_kept():
    pixels = np.array([0, 7, 8, 255], np.uint8).reshape(1, 1, 2, 2)
    reduced = reduce_bits(small_set(pixels), 5)
    assert reduced.levels == 32
    assert reduced.train.ravel().tolist() == [0, 0, 1, 31]


def test_averages_round_half_up():
    pixels = np.array([[0, 1, 255, 255], [1, 0, 255, 255], [0] * 4, [0, 0, 0, 1]], np.uint8)
    reduced = reduce_size(small_set(pixels.reshape(1, 1, 4, 4)), 2)
    assert reduced.train.ravel().tolist() == [1, 255, 0, 0]
