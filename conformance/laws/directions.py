"""Derivatives of a model's bound along a direction, by differences of the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.layer_trial import LayerTrial
from conformance.numerics.compare import Unresolved, compare
from conformance.numerics.jacobian import derivative

RESOLVED = 1e-8
"""Largest uncertainty of the differences, relative to the summed terms, in float64."""
ROUNDINGS = 8
"""The same in roundings of the dtype, for coarser dtypes."""
SHORT = 2.0**-4
"""Factor of the differences' steps: larger ones cross the kinks of ELU's second derivative, near
which their estimated error is too small."""
UNRESOLVED = "differences do not resolve the gradient along this direction"


def along(
    trial: LayerTrial,
    terms: Callable[[float], np.ndarray],
    products: np.ndarray,
    label: str,
) -> Findings:
    """Compare the derivative along one direction.

    Args:
        trial: Case and dtype.
        terms: Function of the length of a step in this direction, which returns numbers that add
            up to the loss.
        products: Entries of the implementation's gradient times those of the direction.
        label: Name of the comparison.
    """

    def scaled(t: float) -> np.ndarray:
        with np.errstate(all="ignore"):
            return terms(t * SHORT) / SHORT

    noise = float(np.finfo(np.float64).eps * abs(scaled(0.0)).sum())
    want, uncertainty = derivative(lambda t: float(scaled(t).sum()), noise=noise)
    unit = max(1.0, float(abs(products).sum()))
    eps = float(np.finfo(trial.dtype).eps)
    if not uncertainty <= max(RESOLVED, ROUNDINGS * eps) * unit:
        yield label, Unresolved(1, UNRESOLVED)
        return
    total = np.array([products.sum(dtype=np.float64)])
    yield label, compare(total, np.array([want]), trial.dtype, unit=np.array([eps * unit]))
