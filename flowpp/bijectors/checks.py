"""Checks of a bijector's input and fields; messages name the owner, what it needs and what came.

`owner` is the object that checks its input, or its name.
"""

from __future__ import annotations

from typing import SupportsIndex

import torch
from torch import Tensor, nn

AXES = ("batch", "channels", "height", "width")


def owner_name(owner: object) -> str:
    """Return the name that an error message begins with."""
    return owner if isinstance(owner, str) else type(owner).__name__


def may_read_values(tensor: Tensor, owner: nn.Module) -> bool:
    """Return whether `owner` may check the values of a tensor, of its own or of its input.

    While a graph is traced there are none, and reading them from a device in training would wait
    for it. There an infinite or NaN result must say that a value was wrong.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or tensor.is_meta:
        return False
    return tensor.device.type == "cpu" or not owner.training


def check_images(x: Tensor, owner: object) -> None:
    """Require a floating-point tensor `(batch, channels, height, width)`.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x does not have four axes.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner_name(owner)} needs a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{owner_name(owner)} needs a floating-point tensor, got {x.dtype}")
    if x.ndim != 4:
        raise ValueError(
            f"{owner_name(owner)} needs shape (batch, channels, height, width), "
            f"got {tuple(x.shape)}"
        )


def checked_levels(levels: int, owner: object) -> int:
    """Return the number of values of a channel, of NumPy's integers too.

    Raises:
        TypeError: not a number.
        ValueError: not an integer of at least 2.
    """
    if isinstance(levels, bool) or not isinstance(levels, SupportsIndex | float):
        raise TypeError(f"{owner_name(owner)} needs an integer number of levels, got {levels!r}")
    if not float(levels).is_integer():
        raise ValueError(f"{owner_name(owner)} needs an integer number of levels, got {levels}")
    if levels < 2:
        raise ValueError(f"{owner_name(owner)} needs at least 2 levels, got {levels}")
    return int(levels)


def check_divisible(x: Tensor, owner: object, axis: str, divisor: int) -> None:
    """Raise ValueError unless `divisor` divides the size of the axis "channels", "height", ..."""
    size = x.shape[AXES.index(axis)]
    if size % divisor:
        needed = "an even" if divisor == 2 else f"a multiple of {divisor} as"
        subject = "number of channels" if axis == "channels" else axis
        raise ValueError(f"{owner_name(owner)} needs {needed} {subject}, got {size}")


def check_broadcastable(field: Tensor, shape: tuple[int, ...], owner: object, name: str) -> None:
    """Raise ValueError unless `field`, called `name`, broadcasts to `shape`."""
    if torch.jit.is_tracing():  # sizes are tensors, which do not compare as numbers
        return
    # torch.broadcast_shapes would import sympy, which takes a second.
    pairs = zip(reversed(field.shape), reversed(shape), strict=False)
    if field.ndim > len(shape) or not all(size in (1, full) for size, full in pairs):
        raise ValueError(
            f"{owner_name(owner)} needs {name} broadcastable to the input's shape "
            f"{tuple(shape)}, got {tuple(field.shape)}"
        )


def check_components(owner: object, **fields: Tensor) -> None:
    """Raise ValueError unless all fields have the same number of components on the last axis."""
    counts = {field.shape[-1] if field.ndim else 0 for field in fields.values()}
    if len(counts) != 1 or 0 in counts:
        *first, last = fields
        shapes = ", ".join(str(tuple(field.shape)) for field in fields.values())
        raise ValueError(
            f"{owner_name(owner)} needs {', '.join(first)} and {last} with the same number of "
            f"components on their last axis, got shapes {shapes}"
        )
