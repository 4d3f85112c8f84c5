"""Where an image of another aspect ratio is cropped."""

from __future__ import annotations

import pytest

from flowpp.data.fit import Target, crop_box


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((20, 30), (10, 10), (0, 5, 20, 25)),  # a portrait: as much from the top as from below
        ((30, 20), (10, 10), (5, 0, 25, 20)),
        ((20, 20), (10, 10), (0, 0, 20, 20)),
        ((20, 30), (10, 20), (2, 0, 17, 30)),
        ((40, 50), (20, 10), (0, 15, 40, 35)),
    ],
)
def test_the_centre_is_taken(size, target, box):
    (width, height), (target_width, target_height) = size, target
    wanted = Target(target_height, target_width, channels=1)
    assert crop_box(width, height, wanted, "a.png") == box
