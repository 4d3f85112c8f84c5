"""Pictures embedded in a page as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from flowpp.data.decode import opened


def embedded_file(file: Path) -> str:
    """Return an image file, decoded within limits and encoded again as PNG; "" if it is bad."""
    try:
        with opened(file, str(file)) as picture:
            return _embedded(picture.convert("RGB"))
    except (OSError, ValueError):
        return ""


def embedded_array(pixels: np.ndarray) -> str:
    """Return pixels (H, W) or (H, W, 3), uint8, as PNG."""
    return _embedded(Image.fromarray(pixels))


def _embedded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
