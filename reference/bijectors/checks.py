"""What every bijector asks of its inputs and of its fields, with errors that say who asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def owner_name(owner: Any) -> str:
    """The class name an error message starts with."""
    return type(owner).__name__


def as_real(value: ArrayLike, owner: Any, name: str) -> np.ndarray:
    """`value` as a float64 array.

    Raises:
        TypeError: if it does not hold real numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner_name(owner)} needs real numbers in {name}, got {array.dtype}")
    return array.astype(np.float64)


def as_images(x: ArrayLike, owner: Any) -> np.ndarray:
    """`x` as a float64 array of shape (batch, channels, height, width).

    Raises:
        TypeError: if it does not hold real numbers.
        ValueError: if it has not four axes.
    """
    array = as_real(x, owner, "its input")
    if array.ndim != 4:
        raise ValueError(
            f"{owner_name(owner)} needs an array (batch, channels, height, width), "
            f"got shape {array.shape}"
        )
    return array


def check_multiple(owner: Any, size: int, factor: int, what: str) -> None:
    """Raise ValueError unless `size`, the number of `what`, is a multiple of `factor`."""
    if size % factor:
        kind = "an even number" if factor == 2 else f"a multiple of {factor} as the number"
        raise ValueError(f"{owner_name(owner)} needs {kind} of {what}, got {size}")


def check_broadcasts(owner: Any, name: str, shape: tuple[int, ...], to: tuple[int, ...]) -> None:
    """Raise ValueError unless an array of this shape can be broadcast to shape `to`."""
    try:
        fits = np.broadcast_shapes(shape, to) == to
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{owner_name(owner)} needs {name} broadcastable to {to}, got shape {shape}"
        )


def set_array(owner: Any, name: str, ndim: int | None = None) -> np.ndarray:
    """Replace a frozen dataclass's field by a float64 array, read-only, and return it.

    Raises:
        TypeError: if it does not hold real numbers.
        ValueError: if `ndim` is given and the field has another number of axes.
    """
    array = as_real(getattr(owner, name), owner, name)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{owner_name(owner)} needs {name} with {ndim} axes, got {array.shape}")
    array.flags.writeable = False
    object.__setattr__(owner, name, array)
    return array


def sum_per_example(values: np.ndarray) -> np.ndarray:
    """Sum over everything but the first axis: (batch, ...) -> (batch,)."""
    return values.sum(axis=tuple(range(1, values.ndim)))
