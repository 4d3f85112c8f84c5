"""Fitting of an image to the model's size: resizing and cropping."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from flowpp.config.data_settings import Crop

Box = tuple[float, float, float, float]
LANCZOS = Image.Resampling.LANCZOS
LUMA = (299, 587, 114)
"""Weights of red, green and blue times 1000, by ITU-R BT.601, as in Pillow's conversion to L."""


@dataclass(frozen=True)
class Target:
    """Form of the images that a model is trained on.

    Args:
        height: Pixels.
        width: Pixels.
        channels: 1 for grey, 3 for colour.
        convert: Whether to convert images of the other kind, instead of refusing them.
        bits: Bits per channel; None for 8 and a refusal of 16.
        crop: How images of another aspect ratio are made to fit.
        of_model: Whether the form is that of a trained model; then no other can be asked for.
        cropped_as: Name, height and width of another image, whose crop is taken in proportion.
    """

    height: int
    width: int
    channels: int
    convert: bool = False
    bits: int | None = None
    crop: Crop = "centre"
    of_model: bool = False
    cropped_as: tuple[str, int, int] | None = None

    @property
    def is_deep(self) -> bool:
        """Whether the pixels have more than 8 bits."""
        return (self.bits or 8) > 8


def fit_image(image: Image.Image, target: Target, who: str) -> Image.Image:
    """Resize and crop an image of mode L or RGB.

    Args:
        image: The image, upright.
        target: Required size, and how to crop.
        who: Name of the file, which decides where a random crop lies.
    """
    box = crop_box(image.width, image.height, target, who)
    return image.resize((target.width, target.height), LANCZOS, box=box)


def fit_deep(values: np.ndarray, target: Target, who: str) -> np.ndarray:
    """Resize and crop 16-bit values (H, W, C) in floating point; return uint16 (C, H, W)."""
    height, width, _ = values.shape
    box = crop_box(width, height, target, who)
    if (target.height, target.width) == (height, width):
        return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.uint16)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(
                (target.width, target.height), LANCZOS, box=box
            )
        )
        for plane in values.transpose(2, 0, 1)
    ]
    return np.stack(planes).round().clip(0, 0xFFFF).astype(np.uint16)


def grey_of_deep(values: np.ndarray) -> np.ndarray:
    """Return the luma of 16-bit colour: (H, W, 3) to (H, W, 1), rounded."""
    return ((values.astype(np.int64) @ np.array(LUMA) + 500) // 1000)[..., None]


def crop_box(width: int, height: int, target: Target, who: str) -> Box:
    """Return the part of an image that is resized to the target: left, top, right, bottom.

    `centre` and `random` take the largest part of the target's aspect ratio, `stretch` takes all.
    """
    if target.cropped_as is not None:
        name, of_height, of_width = target.cropped_as
        box = crop_box(of_width, of_height, replace(target, cropped_as=None), name)
        x, y = width / of_width, height / of_height
        return box[0] * x, box[1] * y, box[2] * x, box[3] * y
    if target.crop == "stretch":
        return 0, 0, width, height
    # The largest integer box of the target's ratio that fits.
    part_width = min(width, max(1, height * target.width // target.height))
    part_height = min(height, max(1, width * target.height // target.width))
    spare_x, spare_y = width - part_width, height - part_height
    if target.crop == "random":
        x, y = _random_place(who)
        left, top = int(x * (spare_x + 1)), int(y * (spare_y + 1))
    else:
        left, top = spare_x // 2, spare_y // 2
    return left, top, left + part_width, top + part_height


def _random_place(who: str) -> tuple[float, float]:
    """Return two numbers in [0, 1) that depend on the file's name only, to be repeatable."""
    digest = hashlib.sha256(who.rpartition("/")[2].encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32, int.from_bytes(digest[4:8], "big") / 2**32
