"""Sizes of the numbers that a layer's rounding errors are proportional to.

Where terms cancel or are amplified, errors are eps times these sizes, not eps times the result.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from conformance.numerics.specs import map_arrays
from reference.conditioner import Conv2d

DRAWS = 8
STEP = 2.0**-30
"""Relative change of every number: far above the rounding of float64, and nearly linear."""


def terms_of_conv(layer: Conv2d, x: np.ndarray) -> np.ndarray:
    """Return the sum of the sizes of the terms of a convolution, at each of its results."""
    sizes = {name: abs(getattr(layer, name)) for name in ("weight", "bias")}
    gain = None if layer.gain is None else abs(layer.gain)
    return dataclasses.replace(layer, **sizes, gain=gain)(abs(x))


def sensitivity(layer: Any, **arguments: np.ndarray) -> np.ndarray:
    """Return the change of a layer's result per relative change of each number that it is given.

    It is the root mean square over draws in which all parameters and inputs move by `STEP`, up or
    down at random.
    """
    rng = np.random.default_rng(0)

    def moved(path: str, array: np.ndarray) -> np.ndarray:
        return array * (1.0 + STEP * rng.choice([-1.0, 1.0], array.shape))

    exact = layer(**arguments)
    squares = np.zeros_like(exact)
    for _ in range(DRAWS):
        changed = {name: moved(name, array) for name, array in arguments.items()}
        squares += (map_arrays(layer, moved)(**changed) - exact) ** 2
    return np.sqrt(squares / DRAWS) / STEP
