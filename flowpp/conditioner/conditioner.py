"""Network of a coupling or of the variational dequantizer's context."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flowpp.kernels.layers import concat_elu

from .block import Block
from .conv2d import Conv2d

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

    autocast: torch.dtype | None = None
    """Half precision of the computation, by torch's autocast; the output still has the input's
    dtype. See `flowpp.config.build.set_compute`."""

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
        if self.autocast is None:
            return self._network(x, context)
        with torch.autocast(x.device.type, self.autocast):
            return self._network(x, context).to(x.dtype)

    def _network(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, context, self.position)
        if self.proj_out is None:
            return h
        return self.proj_out(concat_elu(h) if self.activate_last else h)
