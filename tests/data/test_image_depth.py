"""Files of more than 8 bits per channel are found before Pillow reduces them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.features import check

from flowpp.data.decode import ImageError, decode, read_header
from flowpp.data.fit import Target

VALUES = np.random.default_rng(0).integers(0, 65536, (12, 16, 3)).astype(np.uint16)
OPAQUE = np.concatenate([VALUES, np.full((12, 16, 1), 0xFFFF, np.uint16)], 2)
HIGH = (VALUES >> 8).astype(np.uint8).transpose(2, 0, 1)


def png(values, kind):
    """Return a PNG of 16 bits; Pillow writes grey ones only."""

    def chunk(name, content):
        check_sum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check_sum

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items())


def ppm(largest, magic=b"P6"):
    values = (VALUES.astype(np.int64) * largest // 0xFFFF).astype(">u2")
    return magic + f"\n16 12\n{largest}\n".encode() + values.tobytes()


def tiff(values, *, planes=False, white=False, bits=16, content=None):
    """Return an uncompressed TIFF file of unsigned integers (H, W, C)."""
    height, width, channels = values.shape
    separate = values.transpose(2, 0, 1) if planes else values
    content = separate.astype("<u2").tobytes() if content is None else content
    strips = channels if planes else 1
    photometric = 2 if channels >= 3 else int(not white)
    offset = 8 + 2 + 12 * 11 + 4
    arrays = {
        258: struct.pack(f"<{channels}H", *[bits] * channels),
        273: b"".join(
            struct.pack("<I", offset + 200 + i * len(content) // strips) for i in range(strips)
        ),
        279: struct.pack("<I", len(content) // strips) * strips,
    }
    extra = 0 if channels == 3 else 2
    single = {256: width, 257: height, 259: 1, 262: photometric, 277: channels, 278: height,
              284: 2 if planes else 1, 338: extra}  # fmt: skip
    if channels != 4:
        del single[338]
    entries, beyond = b"", b""
    for tag in sorted({*arrays, *single}):
        if tag in single:
            entries += struct.pack("<HHII", tag, 3, 1, single[tag])
            continue
        kind, size = (3, 2) if tag == 258 else (4, 4)
        data = arrays[tag]
        place = data.ljust(4, b"\0")
        if len(data) > 4:
            place, beyond = struct.pack("<I", offset + len(beyond)), beyond + data
        entries += struct.pack("<HHI", tag, kind, len(data) // size) + place
    head = b"II*\0" + struct.pack("<IH", 8, len(single) + 3) + entries + b"\0\0\0\0"
    return (head.ljust(offset, b"\0") + beyond).ljust(offset + 200, b"\0") + content


DEEP = {
    "png": (png(VALUES, 2), 16),
    "png with alpha": (png(OPAQUE, 6), 16),
    "tiff": (tiff(VALUES), 16),
    "tiff with alpha": (tiff(OPAQUE), 16),
    "ppm": (ppm(65535), 16),
    "ppm of 10 bits": (ppm(1023), 10),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_colour_is_refused_or_said_to_be_reduced(kind):
    raw, bits = DEEP[kind]
    assert read_header(raw, "x").bits == bits
    with pytest.raises(ImageError, match=f"8 bits per channel, got {bits}; data.bits 8"):
        decode(raw, "x", Target(12, 16, 3))
    with pytest.raises(ImageError, match=f"must be grey for data.bits 16, got {bits}-bit colour"):
        decode(raw, "x", Target(12, 16, 3, bits=16))
    reduced = decode(raw, "x", Target(12, 16, 3, bits=8))
    assert reduced.facts == ("reduced",)
    assert np.abs(reduced.pixels.astype(int) - HIGH).max() <= 1  # Pillow rounds PPM


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (tiff(VALUES, planes=True), "16-bit colour in separate planes is not read"),
        (tiff(VALUES[..., :1], white=True), "16 bits with 0 for white is not read"),
    ],
)
@pytest.mark.parametrize("bits", [None, 8, 16])
def test_files_of_which_pillow_reads_wrong_pixels_are_refused(raw, message, bits):
    target = Target(12, 16, 3, convert=True, bits=bits)
    wanted = f"^x must be saved in another way, such as PNG: {message}$"
    for read in (read_header, lambda raw, who: decode(raw, who, target)):
        with pytest.raises(ImageError, match=wanted):
            read(raw, "x")


def test_grey_of_12_bits_is_scaled():
    twelve = VALUES[..., 0] >> 4
    low, high = twelve[:, ::2].astype(int), twelve[:, 1::2].astype(int)
    packed = np.stack([low >> 4, (low & 15) << 4 | high >> 8, high & 255], -1).astype(np.uint8)
    raw = tiff(VALUES[..., :1], bits=12, content=packed.tobytes())
    assert read_header(raw, "x").bits == 12
    pixels = decode(raw, "x", Target(12, 16, 1, bits=16)).pixels
    np.testing.assert_array_equal(pixels[0], twelve.astype(int) * 65535 // 4095)
    shallow = decode(raw, "x", Target(12, 16, 1, bits=8)).pixels
    np.testing.assert_array_equal(shallow[0], twelve >> 4)


@pytest.mark.skipif(not check("avif"), reason="Pillow without AVIF")
@pytest.mark.parametrize(("flags", "bits"), [(0x0C, 8), (0x4C, 10), (0x6C, 12)])
def test_avif(flags, bits):
    file = io.BytesIO()
    Image.fromarray(HIGH.transpose(1, 2, 0)).save(file, "AVIF")
    raw = bytearray(file.getvalue())
    raw[raw.index(b"av1C") + 6] = flags
    if bits == 8:
        assert read_header(bytes(raw), "x").bits == 8
        assert decode(bytes(raw), "x", Target(12, 16, 3)).facts == ()
        return
    with pytest.raises(ImageError):  # found before the pixels, which are still of 8 bits
        decode(bytes(raw), "x", Target(12, 16, 3))
    with Image.open(file) as image:
        from flowpp.data.depth import bits_of

        assert bits_of(image, bytes(raw)) == bits


def test_few_bits_are_8():
    raw = b"P5\n2 1\n15\n\x00\x0f"
    assert read_header(raw, "x").bits == 8
    assert decode(raw, "x", Target(1, 2, 1)).pixels.tolist() == [[[0, 255]]]


def test_heic_of_10_bits():
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.repeat(np.repeat(VALUES, 4, 0), 4, 1)
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 48), pixels.tobytes()).save(file)
    assert read_header(file.getvalue(), "x").bits == 10
    with pytest.raises(ImageError, match="8 bits per channel, got 10; data.bits 8"):
        decode(file.getvalue(), "x", Target(16, 16, 3))
