"""Sizes of images in other lossless formats."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, features

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
}


def bits_of_other_formats(images: Sequence[np.ndarray], levels: int) -> dict[str, int]:
    """Return the bits of a file for each image `(C, H, W)`, by format.

    Empty for images of another number of channels than 1 or 3, or of more than 256 levels. WebP is
    missing where Pillow was built without it.
    """
    if len(images[0]) not in (1, 3) or levels > 256:
        return {}
    usable = [name for name in FORMATS if name != "WebP" or features.check("webp")]
    bits = dict.fromkeys(usable, 0)
    for image in images:
        pixels = image.astype(np.uint8)
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        for name in usable:
            content = io.BytesIO()
            picture.save(content, **FORMATS[name])
            bits[name] += 8 * len(content.getvalue())
    return bits
