"""Images between NumPy, where those of more than 8 bits are uint16, and torch.

torch has few operations for uint16: there such images are int32.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def image_tensor(images: np.ndarray) -> Tensor:
    """Return integer images as a tensor; those of uint16 as int32."""
    return torch.from_numpy(images.astype(np.int32) if images.dtype == np.uint16 else images)


def image_array(images: Tensor, levels: int) -> np.ndarray:
    """Return images with integer values as uint8, or as uint16 for more than 256 levels."""
    if levels <= 256:
        return images.to(torch.uint8).cpu().numpy()
    return images.to(torch.int32).cpu().numpy().astype(np.uint16)
