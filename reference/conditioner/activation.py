"""Activations of the conditioner."""

from __future__ import annotations

import numpy as np

from reference.bijectors.bijector import Array
from reference.bijectors.sigmoid import sigmoid


def concat_elu(x: Array) -> Array:
    """Compute elu([x, -x]) on channels, F -> 2F, where elu(v) = v for v > 0, else e^v - 1."""
    both = np.concatenate([x, -x], axis=1)
    return np.where(both > 0, both, np.expm1(np.minimum(both, 0.0)))


def gate(x: Array) -> Array:
    """Multiply the first half of the channels by the sigmoid of the second: 2F -> F."""
    value, gates = np.split(x, 2, axis=1)
    return value * sigmoid(gates)
