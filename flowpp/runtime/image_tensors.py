"""Images between NumPy, where those of more than 8 bits are uint16, and torch; reals to pixels.

torch has few operations for uint16: there such images are int32.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SHOWN = 8
"""Number of images that an error names."""


class NonFiniteImageError(ValueError, RuntimeError):
    """Raised for NaN or infinite latents or pixels, which as integers would be black images."""


def check_finite(values: Tensor, what: str, first: int = 0) -> None:
    """Require finite numbers of every image; while a graph is traced there are none to check.

    Args:
        values: (N, ...), latents or real-valued pixels.
        what: their name in the message, such as "latents".
        first: index of the first image, where `values` is a part of more.

    Raises:
        NonFiniteImageError: a number is NaN or infinite; the message says how many, in which
            images.
    """
    if values.is_meta or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    non_finite = ~torch.isfinite(values).flatten(1)
    if not non_finite.any():
        return
    rows = non_finite.any(1).nonzero().flatten() + first
    shown = ", ".join(map(str, rows[:SHOWN].tolist())) + ", ..." * (len(rows) > SHOWN)
    raise NonFiniteImageError(
        f"{what} must be finite, got {int(non_finite.sum())} that are not, in {len(rows)} of "
        f"{len(values)} images: index {shown}"
    )


def pixels(x: Tensor, levels: int) -> Tensor:
    """Round real-valued images x + u down to 0 ... levels - 1; the dtype is kept.

    Raises:
        NonFiniteImageError: as `check_finite`.
    """
    check_finite(x, "pixels")
    return x.floor().clamp(0, levels - 1)


def image_tensor(images: np.ndarray) -> Tensor:
    """Return integer images as a tensor; those of uint16 as int32."""
    return torch.from_numpy(images.astype(np.int32) if images.dtype == np.uint16 else images)


def image_array(images: Tensor, levels: int) -> np.ndarray:
    """Return images with integer values as uint8, or as uint16 for more than 256 levels.

    Raises:
        NonFiniteImageError: as `check_finite`.
    """
    check_finite(images, "pixels")
    if levels <= 256:
        return images.to(torch.uint8).cpu().numpy()
    return images.to(torch.int32).cpu().numpy().astype(np.uint16)
