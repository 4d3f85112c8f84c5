"""Checks of a bijector's input and fields; messages name the owner, what it needs and what came.

`owner` is the object that checks its input, or its name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

AXES = ("batch", "channels", "height", "width")


def owner_name(owner: object) -> str:
    """Return the name that an error message begins with."""
    return owner if isinstance(owner, str) else type(owner).__name__


def check_real(value: Any, owner: object, name: str) -> np.ndarray:
    """Require an array of real numbers, called `name`, and return it as float64.

    Raises:
        TypeError: the array does not hold real numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner_name(owner)} needs real numbers in {name}, got {array.dtype}")
    return array.astype(np.float64)


def check_images(x: Any, owner: object) -> np.ndarray:
    """Require real numbers of shape (batch, channels, height, width), and return them as float64.

    Raises:
        TypeError: x does not hold real numbers.
        ValueError: x does not have four axes.
    """
    array = check_real(x, owner, "its input")
    if array.ndim != 4:
        raise ValueError(
            f"{owner_name(owner)} needs shape (batch, channels, height, width), got {array.shape}"
        )
    return array


def check_divisible(x: np.ndarray, owner: object, axis: str, divisor: int) -> None:
    """Raise ValueError unless `divisor` divides the size of the axis "channels", "height", ..."""
    size = x.shape[AXES.index(axis)]
    if size % divisor:
        needed = "an even" if divisor == 2 else f"a multiple of {divisor} as"
        subject = "number of channels" if axis == "channels" else axis
        raise ValueError(f"{owner_name(owner)} needs {needed} {subject}, got {size}")


def check_broadcastable(
    field: np.ndarray, shape: tuple[int, ...], owner: object, name: str
) -> None:
    """Raise ValueError unless `field`, called `name`, broadcasts to `shape`."""
    try:
        fits = np.broadcast_shapes(field.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{owner_name(owner)} needs {name} broadcastable to {shape}, got {field.shape}"
        )


def check_components(owner: object, **fields: np.ndarray) -> None:
    """Raise ValueError unless all fields have the same number of components on the last axis."""
    counts = {field.shape[-1] if field.ndim else 0 for field in fields.values()}
    if len(counts) != 1 or 0 in counts:
        *first, last = fields
        shapes = ", ".join(str(field.shape) for field in fields.values())
        raise ValueError(
            f"{owner_name(owner)} needs {', '.join(first)} and {last} with the same number of "
            f"components on their last axis, got shapes {shapes}"
        )
