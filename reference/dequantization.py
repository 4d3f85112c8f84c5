"""Dequantization: noise u in [0, 1) that turns integers into densities, and log q(u|x)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, as_real, owner_name
from reference.conditioner import Conditioner
from reference.objective import log_normal


def as_pixels(x: ArrayLike, levels: int, owner: object) -> np.ndarray:
    """Images as float64, (B, C, H, W).

    Raises:
        ValueError: if a value is not an integer in 0 ... levels - 1 (NaN is none).
    """
    x = as_images(x, owner)
    wrong = ~((x >= 0) & (x <= levels - 1) & (x == np.floor(x)))
    if wrong.any():
        raise ValueError(
            f"{owner_name(owner)} needs integers within 0 ... {levels - 1}, got {x[wrong][0]}"
        )
    return x


def as_noise(noise: ArrayLike, shape: tuple[int, ...], owner: object) -> np.ndarray:
    """Noise as float64.

    Raises:
        ValueError: if it has not the shape of the images.
    """
    array = as_real(noise, owner, "its noise")
    if array.shape != shape:
        raise ValueError(f"{owner_name(owner)} needs noise of shape {shape}, got {array.shape}")
    return array


def check_levels(owner: object, levels: int) -> None:
    """Raise ValueError on fewer than two levels."""
    if not levels >= 2:
        raise ValueError(f"{owner_name(owner)} needs at least 2 levels, got {levels}")


@dataclass(frozen=True, eq=False)
class UniformDequantizer:
    """u ~ U[0, 1), so log q(u|x) = 0.

    Attributes:
        levels: number of pixel values.
    """

    levels: int

    def __post_init__(self) -> None:
        check_levels(self, self.levels)

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Noise for images of this shape: uniform in [0, 1)."""
        return rng.random(shape)

    def sample(self, x: ArrayLike, noise: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(u, log q(u|x)) = (noise, 0).

        Raises:
            ValueError: if x are not images of `levels` levels, or the noise is not in [0, 1).
        """
        x = as_pixels(x, self.levels, self)
        u = as_noise(noise, x.shape, self)
        wrong = ~((u >= 0.0) & (u < 1.0))
        if wrong.any():
            raise ValueError(f"UniformDequantizer needs noise in [0, 1), got {u[wrong][0]}")
        return u, np.zeros(len(x))

    def log_prob(self, x: ArrayLike, u: ArrayLike) -> np.ndarray:
        """The density's log q(u|x): 0 for u in [0, 1), else -inf for that example."""
        x = as_pixels(x, self.levels, self)
        u = as_noise(u, x.shape, self)
        inside = ((u >= 0.0) & (u < 1.0)).all(axis=(1, 2, 3))
        log_q = np.where(inside, 0.0, -np.inf)
        return np.where(np.isnan(u).any(axis=(1, 2, 3)), np.nan, log_q)

    def initialize(self, x: ArrayLike, noise: ArrayLike) -> tuple[UniformDequantizer, np.ndarray]:
        """Nothing to fit: (self, u)."""
        return self, self.sample(x, noise)[0]


@dataclass(frozen=True, eq=False)
class VariationalDequantizer:
    """u = flow(eps; context(x)), eps ~ N(0, I): section 3.1 of the paper.

    log q(u|x) = log N(eps; 0, I) - log|det du/deps|.

    Attributes:
        levels: number of pixel values.
        split: lays out the image, scaled to [-1/2, 1/2), for the context network.
        context_network: what the flow gets to see of the image.
        flow: from eps to u, in (0, 1); its last bijector is a Sigmoid.
    """

    levels: int
    split: Bijector
    context_network: Conditioner
    flow: Bijector

    def __post_init__(self) -> None:
        check_levels(self, self.levels)

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Noise for images of this shape: standard normal."""
        return rng.standard_normal(shape)

    def _network_input(self, x: np.ndarray) -> np.ndarray:
        return self.split.forward(x / self.levels - 0.5)[0]

    def context(self, x: ArrayLike) -> np.ndarray:
        """What the flow sees of the images."""
        return self.context_network(self._network_input(as_pixels(x, self.levels, self)))

    def sample(self, x: ArrayLike, noise: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(u, log q(u|x)).

        Raises:
            ValueError: if x are not images of `levels` levels, or the noise has another shape.
        """
        x = as_pixels(x, self.levels, self)
        eps = as_noise(noise, x.shape, self)
        u, log_det = self.flow.forward(eps, self.context(x))
        return u, log_normal(eps) - log_det

    def log_prob(self, x: ArrayLike, u: ArrayLike) -> np.ndarray:
        """The density's log q(u|x), by the inverse flow."""
        x = as_pixels(x, self.levels, self)
        u = as_noise(u, x.shape, self)
        eps, log_det = self.flow.inverse(u, self.context(x))
        return log_normal(eps) + log_det

    def initialize(
        self, x: ArrayLike, noise: ArrayLike
    ) -> tuple[VariationalDequantizer, np.ndarray]:
        """Fit the context network, then the flow: (fitted, its u)."""
        x = as_pixels(x, self.levels, self)
        eps = as_noise(noise, x.shape, self)
        network, context = self.context_network.initialize(self._network_input(x))
        flow, u = self.flow.initialize(eps, context)
        return dataclasses.replace(self, context_network=network, flow=flow), u
