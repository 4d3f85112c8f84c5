"""The part of an image of another aspect ratio that is taken, and 16-bit values."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from flowpp.data.fit import Target, crop_box, fit_deep, fit_image, grey_of_deep


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((20, 30), (10, 10), (0, 5, 20, 25)),  # a portrait: as much from the top as from below
        ((30, 20), (10, 10), (5, 0, 25, 20)),
        ((20, 20), (10, 10), (0, 0, 20, 20)),
        ((20, 30), (10, 20), (2, 0, 17, 30)),
        ((40, 50), (20, 10), (0, 15, 40, 35)),
        ((20, 31), (10, 20), (2, 0, 17, 31)),
        ((31, 20), (20, 10), (0, 2, 31, 17)),
        ((50, 1), (1, 40), (24, 0, 25, 1)),
        ((1, 50), (40, 1), (0, 24, 1, 25)),
    ],
)
def test_the_centre_is_taken(size, target, box):
    (width, height), (target_width, target_height) = size, target
    wanted = Target(target_height, target_width, channels=1)
    assert crop_box(width, height, wanted, "a.png") == box


@pytest.mark.parametrize(("size", "target"), [((20, 30), (10, 10)), ((9, 4), (3, 7))])
def test_stretching_takes_all(size, target):
    wanted = Target(*target, channels=1, crop="stretch")
    assert crop_box(*size, wanted, "a.png") == (0, 0, *size)


@pytest.mark.parametrize(("width", "height"), [(1, 50), (50, 1), (2, 3)])
def test_the_part_has_a_pixel_at_least(width, height):
    for target in ((1, 40), (40, 1)):
        left, top, right, bottom = crop_box(width, height, Target(*target, channels=1), "a.png")
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_random_parts_are_those_of_earlier_versions():
    """The place depends on the name of the file, not on its folder."""
    wanted = Target(10, 10, channels=1, crop="random")
    boxes = [crop_box(*size, wanted, "d.png") for size in ((600, 10), (10, 600))]
    assert boxes == [(372, 0, 382, 10), (0, 100, 10, 110)]
    assert crop_box(600, 10, wanted, "a/b/d.png") == boxes[0]
    places = {crop_box(12, 10, wanted, f"{n}.png")[0] for n in range(60)}
    assert places == {0, 1, 2}


@pytest.mark.parametrize("crop", ["centre", "random", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_part_is_resized(crop, channels):
    pixels = np.random.default_rng(0).integers(256, size=(9, 14, channels)).astype(np.uint8)
    image = Image.fromarray(pixels.squeeze())
    wanted = Target(4, 5, channels, crop=crop)
    box = crop_box(14, 9, wanted, "d.png")
    expected = image.resize((5, 4), Image.Resampling.LANCZOS, box=box)
    np.testing.assert_array_equal(fit_image(image, wanted, "d.png"), expected)
    deep = fit_deep(pixels.astype(np.uint16), wanted, "d.png")
    each = zip(pixels.transpose(2, 0, 1), deep, strict=True)
    for plane, found in each:
        whole = Image.fromarray(plane.astype(np.float32))
        part = np.asarray(whole.resize((5, 4), Image.Resampling.LANCZOS, box=box))
        np.testing.assert_array_equal(found, part.clip(0, None).round())


def test_deep_values_are_kept_or_resized_in_floating_point():
    values = np.random.default_rng(0).integers(65536, size=(6, 8, 3)).astype(np.uint16)
    kept = fit_deep(values, Target(6, 8, channels=3, bits=16), "a.png")
    assert kept.dtype == np.uint16 and kept.flags.c_contiguous
    np.testing.assert_array_equal(kept, values.transpose(2, 0, 1))
    half = fit_deep(values, Target(3, 3, channels=3, bits=16), "a.png")
    assert half.shape == (3, 3, 3) and half.dtype == np.uint16
    for plane, found in zip(values.transpose(2, 0, 1).astype(np.float32), half, strict=True):
        whole = Image.fromarray(plane.copy())
        part = whole.resize((3, 3), Image.Resampling.LANCZOS, box=(1, 0, 7, 6))
        expected = np.asarray(part).clip(0, 65535)
        np.testing.assert_allclose(found, expected, atol=0.51)


def test_resizing_does_not_wrap_around():
    edge = np.zeros((8, 8, 1), np.uint16)
    edge[:, 4:] = 65535
    fitted = fit_deep(edge, Target(5, 5, channels=1, bits=16), "a.png")[0]
    assert fitted.min() == 0 and fitted.max() == 65535
    assert (fitted[:, :2] < 9000).all() and (fitted[:, 3:] > 57000).all()


def test_the_luma_of_deep_colour():
    colours = np.array([[[1000, 0, 0], [0, 1000, 0]], [[0, 0, 1000], [1, 0, 1]]], np.uint16)
    assert grey_of_deep(colours)[..., 0].tolist() == [[299, 587], [114, 0]]
    grey = grey_of_deep(np.array([[[0, 1, 8]]], np.uint16))  # 1.499 is rounded down
    assert grey.tolist() == [[[1]]] and grey.dtype == np.int64
    white = np.full((1, 1, 3), 65535, np.uint16)
    assert grey_of_deep(white).tolist() == [[[65535]]]


@pytest.mark.parametrize(("bits", "deep"), [(None, False), (8, False), (9, True), (16, True)])
def test_more_than_8_bits_are_deep(bits, deep):
    assert Target(1, 1, 1, bits=bits).is_deep is deep
