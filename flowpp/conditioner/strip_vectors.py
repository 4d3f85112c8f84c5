"""Biases and gains with a row for each strip of an image, whose gradients a block need not add up.

The gradient of a vector is a sum over all positions of all images. In a compiled block it takes a
kernel that reads the gradient of the layer's output again, for partial sums, and another one that
adds these. With a row for each strip, the block returns the partial sums, and outside one kernel
adds those of all vectors of a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .conv2d import Conv2d
from .layer_norm import LayerNorm

POSITIONS = 64
"""Largest number of positions of a strip, unless one line has more. With fewer, there are more
partial sums to write and add; with more, too few groups of threads for a GPU's processors."""


def vectors_by_strip(module: nn.Module, prefix: str, images: torch.Size) -> dict[str, Tensor]:
    """Return biases and gains of all layers as `(B, S, length)`, by name, for `functional_call`.

    Args:
        module: Convolutions and layer normalizations in any modules.
        prefix: Start of the names.
        images: Shape (B, C, H, W) of the images; S strips have H / S lines each.
    """
    named = {f"{prefix}{name}": vector for name, vector in _vectors(module).items()}
    batch, _, height, width = images
    rows = torch.cat(list(named.values())).expand(batch, _strips(height, width), -1)
    split = rows.split([len(vector) for vector in named.values()], dim=-1)
    return dict(zip(named, split, strict=True))


def has_shared_vectors(module: nn.Module) -> bool:
    """Return whether there are biases or gains, without rows for strips yet."""
    return any(vector.ndim == 1 for vector in _vectors(module).values())


def _strips(height: int, width: int) -> int:
    """Return the number of strips of an image."""
    lines = max(1, min(height, POSITIONS // width))
    return height // math.gcd(height, lines)


def _vectors(module: nn.Module) -> dict[str, Tensor]:
    vectors: dict[str, Tensor] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, Conv2d):
            vectors[f"{name}.bias"] = layer.bias
        elif isinstance(layer, LayerNorm):
            vectors |= {f"{name}.gain": layer.gain, f"{name}.bias": layer.bias}
    return vectors
