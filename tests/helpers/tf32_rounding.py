"""TF32 on the CPU: rounding of the factors of products, under torch's switches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowpp.runtime.precision import tf32_switches

DROPPED_BITS = 13
"""float32 has 23 bits after the leading one, TF32 has 10."""
aten = torch.ops.aten
PRODUCTS = {
    aten.convolution.default: "convolution",
    aten.convolution_backward.default: "convolution",
    aten.mm.default: "matmul",
    aten.bmm.default: "matmul",
    aten.addmm.default: "matmul",
    aten.baddbmm.default: "matmul",
    aten._scaled_dot_product_flash_attention_for_cpu.default: "matmul",
}
FACTORS = {
    aten.convolution_backward.default: slice(0, 3),
    aten.addmm.default: slice(1, 3),
    aten.baddbmm.default: slice(1, 3),
    aten._scaled_dot_product_flash_attention_for_cpu.default: slice(0, 3),
}
"""Arguments that are factors of the product; the first two elsewhere."""


def round_to_tf32(x: Tensor) -> Tensor:
    """Round float32 to 10 bits after the leading one, to nearest, ties to even."""
    bits = x.contiguous().view(torch.int32)
    odd = (bits >> DROPPED_BITS) & 1
    half_minus_one = (1 << (DROPPED_BITS - 1)) - 1
    rounded = (bits + half_minus_one + odd) >> DROPPED_BITS << DROPPED_BITS
    return torch.where(x.isfinite(), rounded.view(torch.float32), x)


class TF32Rounding(TorchDispatchMode):
    """Round the factors of float32 products to TF32 where torch's switches allow it on CUDA.

    Args:
        rounded: Names of the operations whose factors were rounded, filled by use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rounded: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in PRODUCTS and tf32_switches()[PRODUCTS[func]]:
            factors = FACTORS.get(func, slice(0, 2))
            arguments = list(args)
            for index in range(*factors.indices(len(args))):
                if args[index].dtype == torch.float32:
                    arguments[index] = round_to_tf32(args[index])
                    self.rounded.add(func.name())
            args = tuple(arguments)
        return func(*args, **(kwargs or {}))
