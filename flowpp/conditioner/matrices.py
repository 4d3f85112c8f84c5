"""Kernels of convolutions as matrices, and their orthogonal initialization."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .conv2d import Conv2d
from .gated_attention import GatedAttention


def kernel_matrices(network: nn.Module) -> dict[str, int]:
    """Return the number of matrices in each convolution's kernel, by name of the convolution.

    A kernel `(out, in, k, k)` is a matrix of `out` rows and `in * k * k` columns; the projection
    to queries, keys and values is three of them, one below the other.
    """
    joint = {id(m.proj_in) for m in network.modules() if isinstance(m, GatedAttention)}
    return {
        name: 3 if id(layer) in joint else 1
        for name, layer in network.named_modules()
        if isinstance(layer, Conv2d)
    }


@torch.no_grad()
def make_orthogonal(network: nn.Module) -> None:
    """Replace each kernel's matrices by random ones with orthonormal rows, or columns if fewer.

    Data-dependent initialization scales the rows afterwards.

    Source: Saxe, McClelland and Ganguli 2014, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks".
    """
    for name, count in kernel_matrices(network).items():
        weight: Any = network.get_submodule(name).weight
        for matrix in weight.chunk(count):
            nn.init.orthogonal_(matrix)
