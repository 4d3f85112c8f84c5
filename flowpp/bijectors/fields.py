"""Fields of bijectors."""

from __future__ import annotations

from torch import Tensor, nn


def set_field(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Register a tensor on a module: a Parameter as such, any other tensor as a buffer.

    The parameters of an elementwise map are either learned (Parameters) or computed by a network;
    both follow the module to another device or dtype.
    """
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)
