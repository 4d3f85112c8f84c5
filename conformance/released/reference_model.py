"""The reference in the comparison, and derivatives of its loss by differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .implementation import Implementation


def reference_implementation(model: Any) -> Implementation:
    """Wrap the reference model, in float64."""
    chain = getattr(model.dequantizer, "flow", None)
    return Implementation(
        name="reference",
        precision="f64",
        spec=model,
        built=model,
        flow=list(model.flow.bijectors),
        dequantizer_flow=[] if chain is None else list(chain.bijectors),
        dequantizer=model.dequantizer,
        conditioner=lambda element: element.conditioner,
        build=lambda spec: spec,
    )


def directional_derivatives(
    with_variables: Callable[[Mapping[str, np.ndarray]], Any],
    variables: Mapping[str, np.ndarray],
    gradient: Mapping[str, np.ndarray],
    images: np.ndarray,
    noise: np.ndarray,
    *,
    count: int = 3,
    step: float = 1e-4,
) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes of the loss along random directions, by differences and by a gradient.

    The reference has no autograd, but its loss still checks the gradient of an implementation.

    Args:
        with_variables: Function from released variables to the reference model.
        variables: All released variables.
        gradient: Gradient of the loss, for the variables along which directions are drawn.
        images: Integer images.
        noise: Noise for the dequantizer.
        count: Number of directions.
        step: Length of the first of two steps; the second is half of it (Richardson).

    Returns:
        By differences and by the gradient, each `(count,)`, divided by the gradient's norm.
    """
    rng = np.random.default_rng(0)
    norm = np.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradient.values()))
    size = np.sqrt(sum(g.size for g in gradient.values()))

    def loss(direction: Mapping[str, np.ndarray], length: float) -> float:
        moved = {
            name: array.astype(np.float64) + length * direction.get(name, 0.0)
            for name, array in variables.items()
        }
        return -float(with_variables(moved).elbo(images, noise).total.mean())

    by_difference, by_gradient = [], []
    for _ in range(count):
        direction = {name: rng.standard_normal(g.shape) / size for name, g in gradient.items()}
        slopes = [(loss(direction, h) - loss(direction, -h)) / (2 * h) for h in (step, step / 2)]
        by_difference.append((4 * slopes[1] - slopes[0]) / 3 / norm)
        dots = (float((direction[name] * gradient[name]).sum()) for name in gradient)
        by_gradient.append(sum(dots) / norm)
    return np.array(by_difference), np.array(by_gradient)
