"""Network of a coupling or of the variational dequantizer's context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from flowpp.kernels.layers import concat_elu

from .block import Block
from .block_by_strips import has_dropout, has_known_form
from .compiled import compiled_block
from .conv2d import Conv2d
from .half_precision import half_parameters
from .hashed_dropout import draw_keys
from .strip_vectors import has_shared_vectors, vectors_by_strip

CHANNELS_LAST = ("cuda",)
"""Types of devices on which networks compute in channels last."""
POSITION_DEVIATION = 0.01
"""Standard deviation of a new position embedding."""


class Conditioner(nn.Module):
    """proj_out(block_n(... block_1(proj_in(x)))).

    Args:
        proj_in: C -> F, 3x3.
        blocks: all on F channels; each receives the context.
        proj_out: F -> parameters, 3x3; None for a network that returns its features.
        position: `(F, H, W)`, added before each attention; shared by all blocks.
        activate_last: concat_elu before proj_out, which then takes 2F channels (in the released
            ImageNet family, not in the CIFAR family).

    Raises:
        ValueError: a position without three axes, or `activate_last` without `proj_out`.
    """

    compute_dtype: torch.dtype | None = None
    """Half precision of the computation, None for that of the input. The output still has the
    input's dtype, unless `half_output`. See `flowpp.config.build.set_compute`."""

    half_output = False
    """Return half precision on CUDA devices: what follows converts each number as it reads it."""

    compiled = False
    """Compute the blocks by torch.compile in training; see `flowpp.config.build.set_compute`."""

    def __init__(
        self,
        proj_in: Conv2d,
        blocks: Iterable[Block],
        proj_out: Conv2d | None = None,
        position: Tensor | None = None,
        activate_last: bool = False,  # noqa: FBT001, FBT002  (a field, as in the reference)
    ) -> None:
        super().__init__()
        if position is not None and position.ndim != 3:
            raise ValueError(
                f"Conditioner needs a position (F, H, W), got shape {tuple(position.shape)}"
            )
        if activate_last and proj_out is None:
            raise ValueError("Conditioner needs a proj_out for activate_last, got None")
        self.proj_in = proj_in
        self.blocks = nn.ModuleList(blocks)
        self.proj_out = proj_out
        self.position = None if position is None else nn.Parameter(position)
        self.activate_last = activate_last

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        dtype = self.compute_dtype or x.dtype
        half_output = self.half_output and x.is_cuda and x.dtype is torch.float32
        output_dtype = dtype if half_output else x.dtype
        inputs = x.to(dtype), None if context is None else context.to(dtype)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            parameters = self._parameters_of_pass(x, dtype)
            if parameters:
                return functional_call(self, parameters, inputs, strict=False).to(output_dtype)
        return self._network(*inputs).to(output_dtype)  # each layer converts its own parameters

    def _parameters_of_pass(self, x: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return what replaces parameters in a pass; nothing if they are replaced already."""
        by_strip = {}
        if self._uses_strips(x) and has_shared_vectors(self.blocks):
            by_strip = vectors_by_strip(self.blocks, "blocks.", x.shape)
        half = {} if dtype == x.dtype else half_parameters(self, dtype, besides=by_strip)
        return half | by_strip

    def _network(self, x: Tensor, context: Tensor | None) -> Tensor:
        if x.device.type in CHANNELS_LAST:
            x = x.contiguous(memory_format=torch.channels_last)
        call = compiled_block if self._uses_compiler() else _call
        h = self.proj_in(x)
        inputs = zip(self.blocks, self._positions(x), self._seeds(x), strict=True)
        for block, position, seeds in inputs:
            h = call(block, h, context, position, seeds)
        if self.proj_out is None:
            return h
        return self.proj_out(concat_elu(h) if self.activate_last else h)

    def _positions(self, x: Tensor) -> Sequence[Tensor | None]:
        """Return each block's position; one operation adds the gradients of compiled blocks."""
        count, position = len(self.blocks), cast("Tensor | None", self.position)
        if position is None or not self._uses_compiler():
            return [position] * count
        if self._uses_strips(x):  # in the layout of the features
            position = position.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        return position.expand(count, -1, -1, -1).unbind()

    def _seeds(self, x: Tensor) -> Sequence[Tensor | None]:
        """Return the keys of each block's dropouts, drawn together, where strips need them."""
        count = len(self.blocks)
        if not (self._uses_strips(x) and any(map(has_dropout, self.blocks))):
            return [None] * count
        return draw_keys(count, 2, device=x.device).unbind()

    def _uses_strips(self, x: Tensor) -> bool:
        channels_last = x.device.type in CHANNELS_LAST
        return channels_last and self._uses_compiler() and all(map(has_known_form, self.blocks))

    def _uses_compiler(self) -> bool:
        training = self.training and torch.is_grad_enabled()
        return self.compiled and training and not torch.compiler.is_compiling()


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Compute the blocks of all networks without torch.compile inside the block.

    Hooks of their layers are called only then.
    """
    networks = [m for m in model.modules() if isinstance(m, Conditioner) and m.compiled]
    for network in networks:
        network.compiled = False
    try:
        yield
    finally:
        for network in networks:
            network.compiled = True


def _call(
    block: nn.Module,
    x: Tensor,
    context: Tensor | None,
    position: Tensor | None,
    seeds: Tensor | None,
) -> Tensor:
    return block(x, context, position)
