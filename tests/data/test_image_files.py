"""Image files as people have them: turned, hidden, animated, repeated, grey among colour."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.presets import SMALL
from flowpp.config.serialization import from_dict
from flowpp.data import formats
from flowpp.data.autoconfig import configure
from flowpp.data.decode import decode
from flowpp.data.fit import Target

PHOTO = load_sample_images().images[0]


def crop(number=0, height=24, width=32):
    """A crop of a real photograph."""
    return Image.fromarray(PHOTO[10 * number :][:height, 10 * number :][:, :width])


def fill(folder, count=20, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        crop(number).save(folder / f"{number:03}.png")
    return folder


def load(folder, size=16, **settings):
    return data.load(DataConfig(source="folder", path=str(folder), size=size, **settings))


def small(folder, **settings):
    return configure(
        replace(SMALL, data=DataConfig(source="folder", path=str(folder), **settings))
    )


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
         6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
"""How an upright photograph must be turned to lie as its EXIF orientation says."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, *TURNS])
def test_photographs_are_turned_upright(orientation, kind):
    upright = crop(height=16, width=16)
    lying = upright
    if orientation in TURNS:
        lying = upright.transpose(Image.Transpose[TURNS[orientation]])
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(encoded(lying, kind, exif=exif, **options), "x", Target(16, 16, 3))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(upright).transpose(2, 0, 1))
    if kind != "TIFF":  # Pillow turns these itself
        assert ("turned" in decoded.facts) == (orientation in TURNS)


def test_turned_photographs_are_counted_and_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    for number in range(20):
        crop(number, 16, 48).save(tmp_path / f"{number}.jpg", exif=exif)
    _, notes = small(tmp_path, size="48x16")
    assert "48x16 (height x width)" not in notes[0] and "all of 48x16 pixels" in notes[0]
    assert "turned upright by their EXIF orientation: 20 files" in load(tmp_path).notes


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored():
    raw = encoded(crop(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    np.testing.assert_array_equal(
        decode(raw, "x", Target(24, 32, 3)).pixels,
        np.asarray(Image.open(io.BytesIO(raw))).transpose(2, 0, 1),
    )


def test_hidden_and_system_files_are_left_out(tmp_path):
    plain = load(fill(tmp_path / "plain"))
    folder = fill(tmp_path / "pics")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".hidden/train"):
        fill(folder / name, 3)
    for name in ("._000.png", ".DS_Store", "Thumbs.db", ".x.png"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    images = load(folder)
    assert images.sha256 == plain.sha256 and not images.notes
    assert len(small(folder)[1]) > 2


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    assert len(load(fill(tmp_path / ".cache" / "__MACOSX" / "pics")).train) == 18


def test_other_kinds_are_counted(tmp_path):
    fill(tmp_path)
    for name in ("a.svg", "b.SVG", "c.psd", "labels.csv", "README"):
        (tmp_path / name).write_bytes(b"x")
    (note,) = load(tmp_path).notes
    assert note.startswith("5 files not read: 2 .svg, ")
    for part in ("2 .svg", "1 .psd", "1 .csv", "1 without a suffix"):
        assert part in note


def test_heic_files_name_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "HEIF_READER", "no_such_package")
    fill(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"x")
    assert load(tmp_path).notes == (
        "1 file not read: 1 .heic; to read .heic: pip install 'flowpp[heic]'",
    )
    line = formats.unread_note(Counter({f".{i}": 9 - i for i in range(7)}))
    assert line.startswith("42 files not read: 9 .0") and line.endswith("and 2 other kinds")


READ = {".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".gif": "GIF", ".jfif": "JPEG",
        ".jpe": "JPEG", ".JPG": "JPEG"} | (
    {".avif": "AVIF"} if "AVIF" in formats.SUFFIXES_BY_FORMAT else {})  # fmt: skip


@pytest.mark.parametrize("suffix", READ)
def test_kinds_that_pillow_reads(tmp_path, suffix):
    mode = {".pgm": "L", ".pbm": "1", ".gif": "P"}.get(suffix, "RGB")
    for number in range(10):
        crop(number, 16, 16).convert(mode).save(tmp_path / f"{number}{suffix}", READ[suffix])
    images = load(tmp_path, channels=1 if mode in "1L" else 3)
    assert len(images.train) == 9 and images.notes == ()
    with Image.open(tmp_path / f"0{suffix}") as image:
        expected = np.atleast_3d(np.asarray(image.convert("L" if mode in "1L" else "RGB")))
    np.testing.assert_array_equal(images.train[0], expected.transpose(2, 0, 1))


def test_further_frames_and_pages_are_counted(tmp_path):
    fill(tmp_path)
    for suffix in (".webp", ".gif", ".tif", ".png"):
        crop(1).save(tmp_path / f"a{suffix}", save_all=True, append_images=[crop(2), crop(3)])
    images = load(tmp_path)
    assert "frames or pages after the first are not used: 4 files" in images.notes
    assert len(images.train) + len(images.test) == 24


def test_duplicates_are_counted(tmp_path):
    fill(tmp_path / "train", 12)
    fill(tmp_path / "test", 5, 10)
    fill(tmp_path / "train" / "copies", 3)
    images = load(tmp_path)
    assert len(images.train) == 15
    assert images.notes == (
        "2 test images of 5 equal to a training image, pixel for pixel: results are too good",
        "3 training images of 15 equal to another, pixel for pixel",
    )


@pytest.fixture
def mixed(tmp_path):
    folder = fill(tmp_path / "mixed", 12)
    for number in range(4):
        crop(number).convert("L").save(folder / f"grey{number}.png")
    return folder


def test_grey_among_colour_is_refused_with_the_ways_out(mixed):
    for read in (lambda: small(mixed), lambda: load(mixed)):
        with pytest.raises(ValueError, match="grey") as refused:
            read()
        assert "data.channels 1" in str(refused.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_images_are_converted_if_channels_are_given(mixed, channels):
    config, notes = small(mixed, channels=channels)
    assert config.data.channels == channels and config.data.convert
    assert "16 grey and colour images" in notes[0]
    images = data.load(config.data)
    assert images.shape == (channels, 16, 16) and len(images.train) + len(images.test) == 16
    converted = 12 if channels == 1 else 4
    assert f"converted to the other kind, grey or colour: {converted} files" in images.notes
    assert load(mixed, channels=channels, size=16).sha256 == images.sha256


def test_conversions():
    photo = crop(height=16, width=16)
    grey = decode(encoded(photo, "PNG"), "x", Target(16, 16, 1, convert=True)).pixels
    luma = np.asarray(photo) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[0] - luma).max() < 0.51
    colour = decode(
        encoded(photo.convert("L"), "PNG"), "x", Target(16, 16, 3, convert=True)
    ).pixels
    np.testing.assert_array_equal(colour, grey.repeat(3, axis=0))


def test_former_settings_convert_nothing(mixed):
    former = from_dict(DataConfig, {"source": "folder", "path": str(mixed), "size": 16,
                                    "channels": 3, "skip_bad": True, "bits": 8})  # fmt: skip
    images = data.load(former)
    assert len(images.train) + len(images.test) == 12 and len(images.skipped) == 4


def sixteen(number=0, side=16):
    """A photograph of 16 bits."""
    values = np.asarray(crop(number, side, side).convert("L"), np.uint16)
    return values * 256 + np.random.default_rng(number).integers(256, size=values.shape).astype(
        np.uint16
    )


@pytest.fixture
def deep(tmp_path):
    for number in range(20):
        Image.fromarray(sixteen(number)).save(
            tmp_path / f"{number:02}.{'png' if number % 2 else 'tif'}"
        )
    return tmp_path


def test_16_bits_are_refused_kept_or_reduced(deep):
    for read in (lambda: small(deep), lambda: load(deep, channels=1)):
        with pytest.raises(ValueError, match="8 bits per channel, got 16") as refused:
            read()
        assert "data.bits 16 keeps them, data.bits 8 keeps the highest 8" in str(refused.value)
    config, notes = small(deep, bits=16)
    kept = data.load(config.data)
    assert kept.levels == 65536 and "65,536 grey levels" in notes and not kept.notes
    np.testing.assert_array_equal(kept.train[3, 0], sixteen(3))
    reduced = data.load(small(deep, bits=8)[0].data)
    assert reduced.levels == 256 and reduced.notes == (
        "reduced from more than 8 bits per channel: 20 files",
    )
    np.testing.assert_array_equal(reduced.train[3, 0], sixteen(3) >> 8)
    twelve = data.load(small(deep, bits=12)[0].data)
    assert twelve.levels == 4096 and twelve.name.endswith("12-bit")
    np.testing.assert_array_equal(twelve.train[3, 0], sixteen(3) >> 4)
    assert data.declared_shape(small(deep, bits=12)[0].data) == ((1, 16, 16), 4096)


def test_16_bits_are_resized_in_floating_point():
    ramp = np.repeat(np.linspace(0, 65535, 32).round().astype(np.uint16)[:, None], 32, 1)
    raw = encoded(Image.fromarray(ramp), "PNG")
    pixels = decode(raw, "x", Target(8, 8, 1, bits=16)).pixels[0]
    expected = np.asarray(
        Image.fromarray(ramp.astype(np.float32)).resize((8, 8), Image.Resampling.LANCZOS)
    )
    assert pixels.dtype == np.uint16 and np.abs(pixels - expected.astype(float)).max() <= 0.51
    colour = decode(raw, "x", Target(8, 8, 3, convert=True, bits=8)).pixels
    np.testing.assert_array_equal(colour, (pixels >> 8).astype(np.uint8)[None].repeat(3, 0))


def test_16_bit_colour_is_not_cut_to_8_bits_in_silence():
    import struct
    import zlib

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    values = np.random.default_rng(0).integers(65536, size=(16, 16, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    raw += chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=r"x must have 8 bits per channel, got 16; data.bits 8"):
        decode(raw, "x", Target(16, 16, 3))
    with pytest.raises(ValueError, match="must be grey for data.bits 16, got 16-bit colour"):
        decode(raw, "x", Target(16, 16, 3, bits=16))
    decoded = decode(raw, "x", Target(16, 16, 3, bits=8))
    np.testing.assert_array_equal(
        decoded.pixels, (values >> 8).astype(np.uint8).transpose(2, 0, 1)
    )
    assert decoded.facts == ("reduced",)


def test_8_bit_images_have_no_16_bits(tmp_path):
    with pytest.raises(ValueError, match="must have 16 bits for data.bits 16, got 8"):
        load(fill(tmp_path), bits=16)


@pytest.mark.parametrize(
    ("crop_mode", "box"), [("centre", (8, 0, 24, 16)), ("stretch", (0, 0, 32, 16))]
)
def test_crops(crop_mode, box):
    photo = crop(height=16, width=32)
    pixels = decode(encoded(photo, "PNG"), "x", Target(16, 16, 3, crop=crop_mode)).pixels
    expected = photo.resize((16, 16), Image.Resampling.LANCZOS, box=box)
    np.testing.assert_array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))


def test_random_crops_lie_anywhere_and_are_the_same_again():
    photo = crop(height=16, width=40)
    raw, whole = encoded(photo, "PNG"), np.asarray(photo).transpose(2, 0, 1)
    lefts = []
    for number in range(60):
        pixels = decode(raw, f"a/{number}", Target(16, 16, 3, crop="random")).pixels
        again = decode(raw, f"b/{number}", Target(16, 16, 3, crop="random")).pixels
        np.testing.assert_array_equal(pixels, again)
        lefts += [x for x in range(25) if np.array_equal(whole[..., x : x + 16], pixels)]
    assert len(lefts) == 60 and min(lefts) < 4 and max(lefts) > 20


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (16, 24)])
def test_sizes_that_are_not_square(tmp_path, height, width):
    folder = fill(tmp_path)
    config, notes = small(folder, size=f"{height}x{width}")
    assert f"resized to {height}x{width} (height x width)" in notes[0]
    images = data.load(config.data)
    assert images.shape == (3, height, width)
    assert data.declared_shape(config.data) == ((3, height, width), 256)


@pytest.mark.parametrize("size", ["", "x", "16x", "1x2x3", "a", "-4", "16 by 16"])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="data.size must be"):
        DataConfig(size=size)


def test_heic_photographs(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for number in range(10):
        crop(number, 64, 64).save(tmp_path / f"{number}.heic", quality=-1)
    images = load(tmp_path, size=64)
    assert images.notes == () and len(images.train) == 9
    expected = np.asarray(crop(0, 64, 64)).transpose(2, 0, 1).astype(int)
    assert np.abs(images.train[0] - expected).mean() < 3
