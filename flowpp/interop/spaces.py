"""Intervals of a bijector's inputs and outputs."""

from __future__ import annotations

from torch.distributions import constraints

from ..bijectors import Bijector, Chain, DataLogit, Inverse, Sigmoid

Interval = tuple[float, float]


def interval_of(
    bijector: Bijector, *, inverse: bool = False, inputs: Interval | None = None
) -> Interval | None:
    """Return the interval of all outputs of the bijector or its inverse; None for all reals.

    The interval is the bijector's full range: that of a `DataLogit`'s inverse is slightly wider
    than [0, levels]. A permutation's is that of its `inputs`.
    """
    if isinstance(bijector, Chain):
        parts = list(bijector.bijectors)
        for part in reversed(parts) if inverse else parts:
            inputs = interval_of(part, inverse=inverse, inputs=inputs)  # type: ignore[arg-type]
        return inputs
    if isinstance(bijector, Inverse):
        return interval_of(bijector.bijector, inverse=not inverse, inputs=inputs)
    if bijector.permutes:
        return inputs
    if isinstance(bijector, Sigmoid) and not inverse:
        return 0.0, 1.0
    if isinstance(bijector, DataLogit) and inverse:
        margin = bijector.margin * bijector.levels / (1 - 2 * bijector.margin)
        return -margin, bijector.levels + margin
    return None


def images_within(interval: Interval | None) -> constraints.Constraint:
    """Return the constraint that all entries of images `(C, H, W)` lie in the interval."""
    entry = constraints.real if interval is None else constraints.interval(*interval)
    return constraints.independent(entry, 3)
