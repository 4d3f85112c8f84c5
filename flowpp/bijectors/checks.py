"""What every bijector asks of its input, and the small sums they share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def check_images(x: Tensor, who: str) -> None:
    """Refuse anything but a floating-point tensor `(batch, channels, height, width)`.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not four-dimensional.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{who} needs a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{who} needs a floating-point tensor, got {x.dtype}")
    if x.ndim != 4:
        raise ValueError(
            f"{who} needs shape (batch, channels, height, width), got {tuple(x.shape)}"
        )


def check_divisible(x: Tensor, who: str, axis: int, divisor: int) -> None:
    """Refuse a size that `divisor` does not divide; raises ValueError naming axis and size."""
    name = ("batch", "channels", "height", "width")[axis]
    if x.shape[axis] % divisor:
        needed = "an even" if divisor == 2 else f"a multiple of {divisor} as"
        size = f"number of {name}" if axis == 1 else name
        raise ValueError(f"{who} needs {needed} {size}, got {x.shape[axis]}")


def check_broadcastable(parameter: Tensor, x: Tensor, who: str, field: str) -> None:
    """Refuse a parameter that does not broadcast to the images' shape."""
    try:
        fits = torch.broadcast_shapes(parameter.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{who} needs {field} that broadcast to the input's shape {tuple(x.shape)}, "
            f"got {tuple(parameter.shape)}"
        )


def check_components(who: str, **parameters: Tensor) -> None:
    """Refuse mixture parameters that have not the same number of components on the last axis."""
    counts = {p.shape[-1] if p.ndim else 0 for p in parameters.values()}
    if len(counts) != 1 or 0 in counts:
        *first, last = parameters
        shapes = ", ".join(str(tuple(p.shape)) for p in parameters.values())
        raise ValueError(
            f"{who} needs {', '.join(first)} and {last} with the same number of components on "
            f"their last axis, got shapes {shapes}"
        )


def no_log_det(x: Tensor) -> Tensor:
    """Log-determinant of a permutation: zeros `(batch,)`."""
    return x.new_zeros(x.shape[0])


def sum_per_example(terms: Tensor) -> Tensor:
    """Sum over all axes but the first: `(B, ...) -> (B,)`."""
    return terms.flatten(1).sum(1)


def hold(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Keep a tensor on a module: a Parameter as such, anything else as a buffer.

    An elementwise map's parameters come from a network (part of its graph) or are learned
    (Parameters); either way they follow the module to another device or dtype.
    """
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)
