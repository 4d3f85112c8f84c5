"""Images that are taken as they are, and others that are refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from flowpp.data.exact import load_exact

SHAPE = (3, 8, 12)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)


def with_late_orientation(path, number: int) -> None:
    """Put EXIF behind the pixels of a PNG file, where its header does not show it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    content = path.read_bytes()
    end = content.rindex(b"IEND") - 4
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:end] + length + chunk + check + content[end:])


def test_pixels_are_those_of_the_file(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    names, pixels = load_exact([tmp_path], SHAPE, 256)
    assert names == ("a.png",) and (pixels[0] == PIXELS.transpose(2, 0, 1)).all()
    with_late_orientation(tmp_path / "a.png", 3)
    assert (
        load_exact([tmp_path], SHAPE, 256)[1][0] == PIXELS[::-1, ::-1].transpose(2, 0, 1)
    ).all()


def test_images_that_would_be_resized_or_converted_are_refused(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(file)
    with_late_orientation(file, 6)
    with pytest.raises(ValueError, match=r"a.png must be 8x12 upright, got 12x8"):
        load_exact([file], SHAPE, 256)
    file = tmp_path / "a.tif"
    Image.fromarray(PIXELS).convert("CMYK").save(file)
    with pytest.raises(ValueError, match=r"must be of RGB or grey pixels, got CMYK"):
        load_exact([file], SHAPE, 256)
