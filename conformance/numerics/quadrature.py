"""Integrals of densities in one or two dimensions, with an estimate of the uncertainty.

The trapezoid rule on an even grid. On a smooth function that decays to both sides it converges
faster than any power of the step; where a network has a kink in its second derivative (ELU), as
the third power. An interval is first mapped to the whole line by a logit, whose slope is a factor
of the density.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

RADIUS = 7.0
"""Radius of the noise whose images the grid covers: 3e-11 of the mass is outside, in 2-D."""
MAX_UNCERTAINTY = 1e-6
"""Uncertainty below which a grid is not refined: mistakes in a density change its mass more."""
POINTS = {1: (513, 2049, 8193), 2: (129, 257, 385)}
MAX_BATCH = 16384

Pair = tuple[np.ndarray, np.ndarray]
Direction = Literal["forward", "inverse"]


@dataclass(frozen=True)
class Density:
    """The density that a bijector defines by mapping to, or from, standard normal noise.

    forward: p(x) = N(forward(x)) |dy/dx|, on the domain; x are samples if x = inverse(noise).
    inverse: q(y) = N(inverse(y)) |dx/dy|, on the range; y are samples if y = forward(noise).

    Attributes:
        direction: Direction from the variable of the density to the noise.
        low, high: Ends of the domain or range, the same on every axis.
    """

    direction: Direction = "forward"
    low: float = -np.inf
    high: float = np.inf

    @property
    def opposite(self) -> Direction:
        return "inverse" if self.direction == "forward" else "forward"

    def to_line(self, x: np.ndarray) -> np.ndarray:
        """Return u(x), on the whole line."""
        if np.isinf(self.low):
            return x
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x - self.low) - np.log(self.high - x)

    def from_line(self, u: np.ndarray) -> Pair:
        """Return (x(u), log dx/du)."""
        if np.isinf(self.low):
            return u, np.zeros_like(u)
        width, e = self.high - self.low, np.exp(-np.abs(u))
        part = np.where(u < 0, e, 1.0) / (1.0 + e)
        return self.low + width * part, np.log(width) - np.abs(u) - 2.0 * np.log1p(e)


@dataclass(frozen=True)
class Grid:
    """A density on an even grid of u.

    Attributes:
        axes: The grid's u, one array per axis.
        mass: Density times cell size, of shape (n,) or (n, n).
        uncertainty: Uncertainty of the integral.
    """

    axes: tuple[np.ndarray, ...]
    mass: np.ndarray
    uncertainty: float

    @property
    def integral(self) -> float:
        return float(self.mass.sum())

    def marginal(self, axis: int) -> Pair:
        """Return u and the CDF there, with the other axes integrated over."""
        others = tuple(i for i in range(self.mass.ndim) if i != axis)
        mass = self.mass.sum(axis=others)
        if not np.isfinite(mass).all():
            raise FloatingPointError("the density is infinite somewhere")
        return self.axes[axis], np.cumsum(mass) - 0.5 * mass


def integrate(
    density: Density,
    log_density: Callable[[np.ndarray], np.ndarray],
    samples: np.ndarray,
) -> Grid:
    """Return the density on a grid, refined until the integral is certain or the grid is largest.

    Args:
        density: Domain of the density.
        log_density: Function of points `(n, D)` that returns `(n,)`.
        samples: Points `(n, D)` that the grid must cover.

    Raises:
        FloatingPointError: The density is NaN somewhere.
    """
    u = density.to_line(samples)
    low, high = u.min(axis=0), u.max(axis=0)
    margin = 0.05 * (high - low)
    ranges = list(zip(low - margin, high + margin, strict=True))
    grid = None
    for points in POINTS[samples.shape[1]]:
        grid = _on_grid(density, log_density, ranges, points)
        if grid.uncertainty <= MAX_UNCERTAINTY:
            break
    assert grid is not None
    return grid


def noise_to_cover(dimensions: int) -> np.ndarray:
    """Return noise `(n, D)` whose images a grid must cover."""
    if dimensions == 1:
        return np.linspace(-RADIUS, RADIUS, 9)[:, None]
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([RADIUS * circle, 0.5 * RADIUS * circle])


def _on_grid(
    density: Density,
    log_density: Callable[[np.ndarray], np.ndarray],
    ranges: list[tuple[float, float]],
    points: int,
) -> Grid:
    axes = tuple(np.linspace(low, high, points) for low, high in ranges)
    cell = float(np.prod([axis[1] - axis[0] for axis in axes]))
    u = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    values = np.empty(len(u))
    for start in range(0, len(u), MAX_BATCH):
        part = slice(start, start + MAX_BATCH)
        x, log_slope = density.from_line(u[part])
        with np.errstate(all="ignore"):
            values[part] = np.exp(log_density(x) + log_slope.sum(axis=1))
        if np.isnan(values[part]).any():
            worst = x[np.isnan(values[part])][0]
            raise FloatingPointError(f"the density is not a number at {worst.tolist()}")
    mass = cell * values.reshape([points] * len(axes))
    # Every other point, from the first or the second on, is a rule of half as many points. One of
    # these may be right by chance, but hardly all of them.
    phases = itertools.product((0, 1), repeat=len(axes))
    halves = [mass[tuple(slice(start, None, 2) for start in phase)].sum() for phase in phases]
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(2 ** len(axes) * np.array(halves) - mass.sum()).max())
    return Grid(axes, mass, difference)
