"""Blocks computed by torch.compile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .block import Block
from .block_by_strips import block_by_strips

MAX_GRAPHS = 64
"""Largest number of compiled graphs of blocks: one for each shape, kind of block and mode."""


def compiled_block(
    block: nn.Module,
    x: Tensor,
    context: Tensor | None,
    position: Tensor | None,
    seeds: Tensor | None,
) -> Tensor:
    """Apply a block by torch.compile. Blocks of one kind and shape share a compiled graph."""
    return _compiled()(block, x, context, position, seeds)


def apply_block(
    block: nn.Module,
    x: Tensor,
    context: Tensor | None,
    position: Tensor | None,
    seeds: Tensor | None,
) -> Tensor:
    """Apply a block in the form to compile, which depends on the shape of its biases."""
    if isinstance(block, Block) and block.conv.conv_in.bias.ndim > 1:
        return block_by_strips(block, x, context, position, seeds)
    return block(x, context, position)


@functools.cache
def _compiled() -> Callable[..., Any]:
    import torch._dynamo.config as limits  # takes a second, which only compiled models need

    limits.recompile_limit = max(limits.recompile_limit, MAX_GRAPHS)
    return torch.compile(apply_block, fullgraph=True, dynamic=False)
