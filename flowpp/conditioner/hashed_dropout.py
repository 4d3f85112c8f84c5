"""Dropout by a hash of positions, for compiled blocks.

Philox, torch's generator, takes about 100 instructions for a number, more time than a GPU needs to
read and write it; and its masks are kept for the backward pass. A hash takes 14, and the
compiler computes the mask again from the keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEYS = 2
"""Number of int32 keys of a mask."""

LARGEST = 2**31
"""Largest number of positions, which are hashed as int32."""


def draw_keys(*shape: int, device: torch.device) -> Tensor:
    """Draw keys of this shape + (KEYS,) from torch's generator of a device."""
    return torch.randint(-(2**31), 2**31, (*shape, KEYS), dtype=torch.int32, device=device)


def hashed_dropout(x: Tensor, rate: float, keys: Tensor) -> Tensor:
    """Zero each number with probability `rate`, and divide the others by 1 - rate.

    Args:
        x: Tensor of at most 2^31 numbers.
        rate: In (0, 1).
        keys: int32 `(2,)`, drawn by `draw_keys`; others give an independent mask.

    Raises:
        ValueError: A larger tensor, whose masks would repeat.
    """
    if x.numel() > LARGEST:
        raise ValueError(
            f"compiled dropout needs at most {LARGEST} numbers at once, got a tensor of shape "
            f"{tuple(x.shape)}: use smaller batches or --training.compile none"
        )
    kept = _hash(x, keys) >= round(rate * 2**32) - 2**31
    return torch.where(kept, x * (1 / (1 - rate)), 0)


def _hash(x: Tensor, keys: Tensor) -> Tensor:
    """Return a uniform int32 for each number of x.

    `lowbias32` of C. Wellons, https://nullprogram.com/blog/2018/07/31/, of the position in x, with
    one key before the first multiplication and one before the second. With more operations,
    Inductor would write the result to memory instead of fusing it with what follows.
    """
    n = torch.arange(x.numel(), dtype=torch.int32, device=x.device).view(x.shape) + keys[0]
    n = (n ^ _shifted(n, 16)) * 0x7FEB352D + keys[1]
    n = (n ^ _shifted(n, 15)) * (0x846CA68B - 2**32)
    return n ^ _shifted(n, 16)


def _shifted(n: Tensor, bits: int) -> Tensor:
    """Shift int32 right as if it had no sign."""
    return (n >> bits) & (2 ** (32 - bits) - 1)
