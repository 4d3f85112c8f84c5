"""Fields of bijectors and layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.bijectors.checks import check_real, owner_name


def set_field(owner: Any, name: str, ndim: int | None = None) -> np.ndarray:
    """Replace the field `name` of a frozen dataclass by a read-only float64 array; return it.

    Raises:
        TypeError: the field does not hold real numbers.
        ValueError: the field does not have `ndim` axes, where that is given.
    """
    array = check_real(getattr(owner, name), owner, name)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{owner_name(owner)} needs {name} with {ndim} axes, got {array.shape}")
    array.flags.writeable = False
    object.__setattr__(owner, name, array)
    return array
