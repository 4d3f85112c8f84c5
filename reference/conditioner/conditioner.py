"""Network of a coupling or of the variational dequantizer's context."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reference.bijectors.bijector import Array
from reference.bijectors.fields import set_field
from reference.conditioner.activation import concat_elu
from reference.conditioner.block import Block
from reference.conditioner.conv2d import Conv2d
from reference.conditioner.dropout import Rng


@dataclass(frozen=True, eq=False)
class Conditioner:
    """proj_out(block_n(... block_1(proj_in(x)))).

    Attributes:
        proj_in: C -> F, 3x3.
        blocks: all on F channels; each receives the context.
        proj_out: F -> parameters, 3x3; None for a network that returns its features.
        position: (F, H, W), added before each attention; shared by all blocks.
        activate_last: concat_elu before proj_out, which then takes 2F channels (in the released
            ImageNet family, not in the CIFAR family).

    Raises:
        ValueError: a position without three axes, or `activate_last` without `proj_out`.
    """

    proj_in: Conv2d
    blocks: tuple[Block, ...]
    proj_out: Conv2d | None = None
    position: Array | None = None
    activate_last: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.position is not None:
            set_field(self, "position", ndim=3)
        if self.activate_last and self.proj_out is None:
            raise ValueError("Conditioner needs a proj_out for activate_last, got None")

    def __call__(self, x: Array, context: Array | None = None, *, rng: Rng | None = None) -> Array:
        """Map (B, C, H, W) -> (B, parameters, H, W)."""
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, context, self.position, rng=rng)
        return h if self.proj_out is None else self.proj_out(self._activate(h))

    def initialize(self, x: Array, context: Array | None = None) -> tuple[Conditioner, Array]:
        """Fit the layers in order, each to the output of the fitted ones before it."""
        proj_in, h = self.proj_in.initialize(x)
        blocks = []
        for block in self.blocks:
            block, h = block.initialize(h, context, self.position)
            blocks.append(block)
        proj_out = self.proj_out
        if proj_out is not None:
            proj_out, h = proj_out.initialize(self._activate(h))
        fitted = dataclasses.replace(
            self, proj_in=proj_in, blocks=tuple(blocks), proj_out=proj_out
        )
        return fitted, h

    def _activate(self, h: Array) -> Array:
        return concat_elu(h) if self.activate_last else h
