"""Decoding of single images: conversions, limits, and errors that name the file."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from flowpp.data import decode as module
from flowpp.data.decode import (
    TASK,
    Header,
    ImageError,
    check_bits,
    decode,
    decode_rgb,
    in_parallel,
    kind_of,
    read_file,
    read_header,
)
from flowpp.data.fit import Target

RNG = np.random.default_rng(0)
WIDE = RNG.integers(256, size=(8, 12, 3), dtype=np.uint8)
DEEP = RNG.integers(65536, size=(8, 12, 3)).astype(np.uint16)
COLOUR, GREY = Target(8, 12, 3), Target(8, 12, 1)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def orientation(number):
    exif = Image.Exif()
    exif[0x112] = number
    return exif


def test_rgb_of_a_required_size():
    square = WIDE[:, :8]
    np.testing.assert_array_equal(decode_rgb(encoded(square), "x", 8), square.transpose(2, 0, 1))
    grey = decode_rgb(encoded(square[..., 0]), "x", 8)
    np.testing.assert_array_equal(grey, np.stack([square[..., 0]] * 3))
    with pytest.raises(ImageError, match="^x must have 8x8 pixels, got 12x8$"):
        decode_rgb(encoded(WIDE), "x", 8)
    with pytest.raises(ImageError, match="^y is not a readable image: unknown format$"):
        decode_rgb(b"text", "y", 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8])
def test_headers_measure_images_upright(number, kind):
    header = read_header(encoded(WIDE, kind, exif=orientation(number)), "x")
    assert header == Header(3, 8, *((12, 8) if number >= 5 else (8, 12)))


def test_headers_without_a_known_orientation():
    assert read_header(encoded(WIDE), "x") == Header(3, 8, 8, 12)
    assert read_header(encoded(WIDE, exif=orientation(9)), "x") == Header(3, 8, 8, 12)


def test_headers_of_arrays():
    assert read_header(DEEP, "x") == Header(3, 16, 8, 12)
    assert read_header(DEEP[..., 0], "x") == Header(1, 16, 8, 12)
    assert read_header(WIDE, "x") == Header(3, 8, 8, 12)
    assert read_header(WIDE[..., 0], "x") == Header(1, 8, 8, 12)


@pytest.mark.parametrize(
    ("pixels", "target", "hint"),
    [
        (WIDE, GREY, "a grey image (data.channels 1), got a colour one; data.channels 1 or 3 "
                     "converts all to grey or colour"),
        (WIDE[..., 0], Target(8, 12, 3, of_model=True), "a colour image (data.channels 3), got a "
                     "grey one; data.channels 3 converts all to colour"),
        (DEEP, Target(8, 12, 1, bits=16, of_model=True), "a grey image (data.channels 1), got a "
                     "colour one; data.channels 1 converts all to grey"),
    ],
)  # fmt: skip
def test_the_other_kind_is_refused_with_the_way_out(pixels, target, hint):
    with pytest.raises(ImageError) as refused:
        decode(pixels, "x", target)
    assert str(refused.value) == f"x must be {hint}"


@pytest.mark.parametrize(
    ("height", "width", "facts"),
    [(8, 12, ()), (4, 6, ()), (9, 12, ("enlarged",)), (8, 13, ("enlarged",))],
)
def test_enlarged_images_are_counted(height, width, facts):
    assert decode(WIDE, "x", Target(height, width, 3)).facts == facts


def test_facts_of_deep_colour():
    def convert(channels, bits):
        return decode(DEEP, "x", Target(8, 12, channels, convert=True, bits=bits))

    assert convert(3, 16).facts == () and convert(3, 8).facts == ("reduced",)
    np.testing.assert_array_equal(convert(3, 16).pixels, DEEP.transpose(2, 0, 1))
    assert convert(3, 8).pixels.shape == (3, 8, 12) and convert(3, 8).pixels.dtype == np.uint8
    assert convert(1, 16).facts == ("converted",)
    assert convert(1, 8).facts == ("converted", "reduced")
    luma = convert(1, 16).pixels
    assert luma.shape == (1, 8, 12) and luma.dtype == np.uint16
    assert np.abs(luma[0] - DEEP @ [0.299, 0.587, 0.114]).max() < 0.51
    np.testing.assert_array_equal(convert(1, 8).pixels, luma >> 8)


def test_deep_arrays_need_a_choice_of_bits():
    for pixels, target in ((DEEP, COLOUR), (DEEP[..., 0], GREY)):
        with pytest.raises(ImageError) as refused:
            decode(pixels, "x", target)
        assert str(refused.value) == (
            "x must have 8 bits per channel, got 16; data.bits 16 keeps them, data.bits 8 keeps "
            "the highest 8"
        )
    with pytest.raises(ImageError, match="^x must have 16 bits for data.bits 9, got 8$"):
        decode(WIDE, "x", Target(8, 12, 3, bits=9))
    with pytest.raises(ImageError) as refused:
        check_bits(16, 9, 3, "x")
    assert str(refused.value) == (
        "x must be grey for data.bits 9, got 16-bit colour, which Pillow reads as 8 bits; use an "
        ".npy array of uint16, or data.bits 8"
    )


def test_9_bits_are_more_than_8():
    colour = b"P6\n12 8\n511\n" + (DEEP // 128).astype(">u2").tobytes()
    assert read_header(colour, "x").bits == 9
    with pytest.raises(ImageError, match="got 9; data.bits 8 keeps the highest 8"):
        decode(colour, "x", COLOUR)
    with pytest.raises(ImageError, match="for data.bits 16, got 9-bit colour"):
        decode(colour, "x", Target(8, 12, 3, bits=16))
    assert decode(colour, "x", Target(8, 12, 3, bits=8)).facts == ("reduced",)


def test_grey_of_12_bits_is_scaled_once():
    """Pillow scales PGM to 16 bits itself."""
    grey = DEEP[..., 0] // 16
    raw = b"P5\n12 8\n4095\n" + grey.astype(">u2").tobytes()
    pixels = decode(raw, "x", Target(8, 12, 1, bits=16)).pixels[0]
    assert np.abs(pixels - grey * (65535 / 4095)).max() <= 1


def test_grey_of_more_than_8_bits_may_become_colour():
    grey = DEEP[..., 0]
    decoded = decode(encoded(grey), "x", Target(8, 12, 3, convert=True, bits=16))
    assert decoded.facts == ("converted",)
    np.testing.assert_array_equal(decoded.pixels, np.stack([grey] * 3))


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_beyond_16_bits_are_refused(value):
    values = np.full((8, 12), 7, np.int32)
    values[3, 2] = value
    target = Target(8, 12, 1, bits=16)
    with pytest.raises(ImageError, match=r"^x must have values in 0 \.\.\. 65535, got others$"):
        decode(encoded(values, "TIFF"), "x", target)
    values[3, 2] = 65535 if value > 0 else 0
    np.testing.assert_array_equal(decode(encoded(values, "TIFF"), "x", target).pixels[0], values)


@pytest.mark.parametrize(
    ("modes", "kind"),
    [(("1", "L", "LA", "I;16", "I"), 1), (("P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"), 3)],
)
def test_kinds_by_mode(modes, kind):
    for mode in modes:
        bands = len(Image.new(mode, (1, 1)).getbands())
        opaque = Image.new(mode, (2, 2), (255,) * bands if bands > 1 else 1)
        assert kind_of(opaque, "x") == kind


def test_transparent_images_and_other_modes_are_refused():
    pixels = np.full((2, 3, 4), 255, np.uint8)
    pixels[1, 2, 3] = 254
    with pytest.raises(ImageError, match="^x must be opaque, got an alpha value of 254$"):
        kind_of(Image.fromarray(pixels), "x")
    for read in (read_header, lambda raw, who: decode(raw, who, Target(2, 3, 3))):
        with pytest.raises(ImageError, match="^x must be opaque"):
            read(encoded(pixels), "x")
    with pytest.raises(ImageError, match="^x must have 8 or 16 bits .*, got pixels of mode F$"):
        kind_of(Image.new("F", (2, 2)), "x")


@pytest.mark.parametrize("pixels", [WIDE, DEEP, encoded(DEEP[..., 0])], ids=["8", "16", "grey"])
def test_random_crops_depend_on_the_name(pixels):
    target = Target(8, 2, 3, crop="random", bits=8, convert=True)
    crops = {decode(pixels, f"a/{i}", target).pixels.tobytes() for i in range(20)}
    again = {decode(pixels, f"b/{i}", target).pixels.tobytes() for i in range(20)}
    assert len(crops) > 3 and crops == again


def test_images_that_lie_are_turned():
    assert decode(encoded(WIDE, exif=orientation(1)), "x", COLOUR).facts == ()
    turned = decode(encoded(WIDE, exif=orientation(2)), "x", COLOUR)
    assert turned.facts == ("turned",)
    np.testing.assert_array_equal(turned.pixels, WIDE[:, ::-1].transpose(2, 0, 1))
    for unknown in (0, 9):
        assert decode(encoded(WIDE, exif=orientation(unknown)), "x", COLOUR).facts == ()


def test_the_largest_side_is_accepted(monkeypatch):
    monkeypatch.setattr(module, "MAX_SIDE", 12)
    decode(encoded(WIDE), "x", COLOUR)
    monkeypatch.setattr(module, "MAX_SIDE", 11)
    for raw in (encoded(WIDE), encoded(WIDE.transpose(1, 0, 2))):
        with pytest.raises(ImageError, match=r"^x must have at most 11 pixels a side, got \("):
            read_header(raw, "x")


def test_files_above_the_limit_or_gone_are_refused(tmp_path, monkeypatch):
    path, raw = tmp_path / "a.png", encoded(WIDE)
    path.write_bytes(raw)
    np.testing.assert_array_equal(decode(path, "x", COLOUR).pixels, WIDE.transpose(2, 0, 1))
    monkeypatch.setattr(module, "MAX_FILE_BYTES", len(raw))
    assert read_file(path) == raw and read_header(path, "x").width == 12
    monkeypatch.setattr(module, "MAX_FILE_BYTES", len(raw) - 1)
    for read in (read_file, lambda path: read_header(path, "x")):
        with pytest.raises(ImageError, match=f"a.png must have at most {len(raw) - 1} bytes"):
            read(path)
    with pytest.raises(ImageError, match="b.png cannot be read: No such file or directory$"):
        read_file(tmp_path / "b.png")
    with pytest.raises(ImageError, match="must be a regular file, got a folder"):
        read_file(tmp_path)


def test_damaged_images_are_named_with_the_reason():
    raw = encoded(RNG.integers(256, size=(64, 64, 3), dtype=np.uint8))
    with pytest.raises(ImageError, match="^x is not a readable image: .*truncated"):
        decode(raw[:200], "x", COLOUR)
    with pytest.raises(ImageError, match="^x is not a readable image: unknown format$"):
        decode(encoded(WIDE, "TGA"), "x", COLOUR)
    with pytest.raises(ImageError, match="^x is not a readable image: .*data type"):
        decode(WIDE.astype(np.complex64), "x", COLOUR)


def test_parallel_results_are_in_order_and_bounded_in_number():
    taken = []

    def numbers():
        for number in range(10 * TASK * (os.cpu_count() or 1) + 5):
            taken.append(number)
            yield number

    results = in_parallel(lambda number: number * number, numbers())
    assert next(results) == 0 and len(taken) == TASK * (os.cpu_count() or 1)
    assert [0, *results] == [number * number for number in range(len(taken))]
    assert list(in_parallel(str, [])) == []
