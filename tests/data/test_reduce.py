"""Fewer levels, smaller sizes, and what an image set says of itself, number by number."""

from __future__ import annotations

import numpy as np
import pytest

from flowpp.data.decoded import in_memory
from flowpp.data.duplicates import duplicates_note
from flowpp.data.image_set import ImageSet
from flowpp.data.reduce import average_blocks, reduce_bits, reduce_size

BYTES = np.random.default_rng(0).integers(256, size=(5, 2, 4, 6)).astype(np.uint8)
WORDS = np.random.default_rng(1).integers(65536, size=(5, 1, 4, 6)).astype(np.uint16)


def image_set(pixels, levels=256, valid=None, **more):
    return ImageSet("some", pixels, pixels[:2], levels, valid=valid, **more)


@pytest.mark.parametrize(
    ("pixels", "levels", "bits", "dtype"),
    [
        (BYTES, 256, 1, np.uint8),
        (BYTES, 256, 7, np.uint8),
        (WORDS, 65536, 1, np.uint8),
        (WORDS, 65536, 8, np.uint8),
        (WORDS, 65536, 9, np.uint16),
        (WORDS, 65536, 15, np.uint16),
    ],
)
def test_the_highest_bits_of_all_parts_are_kept(pixels, levels, bits, dtype):
    reduced = reduce_bits(image_set(pixels, levels, valid=pixels[2:]), bits)
    assert reduced.levels == 2**bits and reduced.name == f"some, {bits}-bit"
    expected = (pixels // (levels // 2**bits)).astype(dtype)
    parts = {"train": expected, "test": expected[:2], "valid": expected[2:]}
    for part, images in parts.items():
        assert reduced.part(part).dtype == dtype
        np.testing.assert_array_equal(reduced.part(part), images)


def test_bits_that_images_have_already_change_nothing():
    for pixels, levels, bits in (
        (BYTES, 256, None), (BYTES, 256, 8), (WORDS, 65536, 16), (BYTES % 32, 32, 5),
        (BYTES % 17, 17, 8),
    ):  # fmt: skip
        images = image_set(pixels, levels)
        assert reduce_bits(images, bits) is images


@pytest.mark.parametrize(
    ("pixels", "levels", "bits", "message"),
    [
        (BYTES, 256, 0, "data.bits must lie in 1 ... 8 for some, got 0$"),
        (BYTES, 256, 9, "data.bits must lie in 1 ... 8 for some, got 9$"),
        (WORDS, 65536, 17, "data.bits must lie in 1 ... 16 for some, got 17$"),
        (BYTES % 17, 17, 4, "data.bits=4 needs images of 256 levels, got some with 17$"),
    ],
)
def test_bits_that_images_do_not_have(pixels, levels, bits, message):
    with pytest.raises(ValueError, match=message):
        reduce_bits(image_set(pixels, levels), bits)


@pytest.mark.parametrize("pixels", [BYTES, WORDS])
@pytest.mark.parametrize("chunk", [1, 2, 5, 4096])
def test_blocks_are_averaged_in_chunks(pixels, chunk):
    """Rounded half up, in integers, of blocks that are not square."""
    reduced = average_blocks(pixels, 4, 3, in_memory, chunk)
    means = pixels.reshape(5, -1, 4, 1, 3, 2).mean((3, 5), dtype=np.float64)
    assert reduced.dtype == pixels.dtype
    np.testing.assert_array_equal(reduced, np.floor(means + 0.5))
    thirds = average_blocks(pixels, 2, 2, in_memory, chunk)
    means = pixels.reshape(5, -1, 2, 2, 2, 3).mean((3, 5), dtype=np.float64)
    np.testing.assert_array_equal(thirds, np.floor(means + 0.5))


def test_all_parts_get_the_requested_size():
    images = image_set(BYTES, valid=BYTES[3:])
    reduced = reduce_size(images, 2, 3)
    assert reduced.name == "some, 2x3" and reduced.levels == 256
    shapes = [reduced.part(part).shape for part in ("train", "test", "valid")]
    assert shapes == [(5, 2, 2, 3), (2, 2, 2, 3), (2, 2, 2, 3)]
    assert reduce_size(images, 4, 6) is images
    square = image_set(BYTES[..., :4])
    assert reduce_size(square, 4) is square and reduce_size(square, 2).shape == (2, 2, 2)
    assert reduce_size(square, 2).name == "some, 2x2"


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (2, None, "data.size=2 needs images of that shape with sides divisible by 2, got some"),
        (2, 2, "data.size=2 needs .* with 4x6 pixels$"),
        (4, 3, r"data.size=4x3 \(height x width\) needs .* divisible by 4, got some with 4x6"),
        (8, 12, r"data.size=8x12 \(height x width\) needs"),
        (3, 6, "data.size=3x6"),
    ],
)
def test_sizes_that_are_no_common_divisor(height, width, message):
    with pytest.raises(ValueError, match=message):
        reduce_size(image_set(BYTES), height, width)


def test_sizes_of_one_and_a_half_pixels():
    with pytest.raises(ValueError, match=r"data.size=4x6 .* divisible by 4, got some with 6x9 "):
        reduce_size(image_set(np.zeros((2, 1, 6, 9), np.uint8)), 4, 6)


def test_a_set_describes_its_parts():
    two = image_set(BYTES, origins={"train": "from here", "test": "from there"})
    assert two.held_out is two.test and two.description() == [
        "training    5 images: from here",
        "test        2 images: from there; also for evaluations during training",
    ]
    three = image_set(BYTES.repeat(300, 0), valid=BYTES[:1], origins={"valid": "a file"})
    assert three.held_out is three.valid and three.description() == [
        "training    1,500 images",
        "validation  1 image: a file",
        "test        2 images",
    ]
    with pytest.raises(
        ValueError, match="^some has no validation images apart from its 2 test im"
    ):
        two.part("valid")


def test_the_hash_is_that_of_earlier_versions():
    train = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    two, three = (ImageSet("s", train, train[:1], 17, valid=v) for v in (None, train[1:]))
    hashes = [images.sha256[:16] for images in (two, three)]
    assert hashes == ["0764522ec93fcb24", "25feb9e56223f647"]
    assert three.has_hash(two.sha256) and not two.has_hash(three.sha256)
    reversed_memory = train[..., ::-1].copy()[..., ::-1]
    assert ImageSet("s", reversed_memory, train[:1], 17).sha256 == two.sha256


@pytest.mark.parametrize(
    ("images", "levels", "error", "message"),
    [
        ([[1]], 17, TypeError, "s: test images must be a NumPy array, got list$"),
        (BYTES, 257, TypeError, "s: test images must be uint16, got uint8$"),
        (WORDS, 256, TypeError, "s: test images must be uint8, got uint16$"),
        (BYTES[0], 256, ValueError, r"^s: test images must be non-empty of shape \(N, C, H, W\)"),
        (BYTES[:0], 256, ValueError, r"non-empty of shape \(N, C, H, W\), got \(0, 2, 4, 6\)$"),
        (BYTES[:, :1], 256, ValueError, r"shape \(2, 4, 6\), got \(1, 4, 6\)$"),
        (np.full((1, 2, 4, 6), 17, np.uint8), 17, ValueError, r"lie in 0\.\.16, got 17$"),
    ],
)
def test_parts_that_are_no_images(images, levels, error, message):
    train = np.zeros((1, 2, 4, 6), np.uint8 if levels <= 256 else np.uint16)
    with pytest.raises(error, match=message):
        ImageSet("s", train, images, levels)
    ImageSet("s", train + 16, train, levels)


def test_duplicates_of_each_part():
    train = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    again, flipped = np.concatenate([train, train[:1]]), train[..., ::-1]
    valid, test = np.concatenate([flipped, train[2:3]]), train[1:4]
    assert duplicates_note({"train": train, "test": flipped}) == []
    assert duplicates_note({"train": again, "valid": valid, "test": test}) == [
        "1 validation image of 7 equal to a training image, pixel for pixel: results are too good",
        "3 test images of 3 equal to a training image, pixel for pixel: results are too good",
        "1 training image of 7 equal to another, pixel for pixel",
    ]
    many = np.repeat(train, 200, axis=0)
    assert duplicates_note({"train": many, "test": flipped}) == [
        "1,194 training images of 1,200 equal to another, pixel for pixel"
    ]
