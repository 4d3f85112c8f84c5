"""Test points of the audit: mixtures and x, or targets y."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MAGNITUDES = (0.0, 1e-3, 1.0, 5.0, 10.0, 30.0, 100.0, 1e3)

# A typical mixture of a trained coupling: four overlapping components.
LOGITS = np.array([0.0, 0.5, -0.5, 0.2])
MEANS = np.array([-1.5, -0.3, 0.4, 2.0])
LOG_SCALES = np.array([-1.0, -0.5, 0.0, -0.7])


@dataclass(frozen=True)
class Points:
    """N points, each with its own mixture.

    Attributes:
        x: `(N,)`; the target y when an inverse is audited.
        logits, means, log_scales: `(N, K)`.
    """

    x: np.ndarray
    logits: np.ndarray
    means: np.ndarray
    log_scales: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def rows(self) -> Iterator[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
        """Iterate over x, logits, means and log-scales of each point."""
        return zip(self.x, self.logits, self.means, self.log_scales, strict=True)

    @property
    def parameters(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, means and log-scales."""
        return self.logits, self.means, self.log_scales

    def rounded(self, dtype: str) -> Points:
        """Round all values to `dtype`, and return them as float64."""
        arrays = (self.x, *self.parameters)
        return Points(*(a.astype(dtype).astype(np.float64) for a in arrays))

    def at(self, x: np.ndarray) -> Points:
        """Return the same mixtures at other points."""
        return Points(np.asarray(x, dtype=np.float64), *self.parameters)

    def take(self, which: np.ndarray) -> Points:
        """Select points by index or mask."""
        return Points(self.x[which], *(p[which] for p in self.parameters))


def random_points(rng: np.random.Generator, components: int, count: int) -> Points:
    """Draw mixtures with scales over eight orders of magnitude.

    Half of the points are at an absolute x, half at a multiple of a component's scale.
    """
    logits = rng.standard_normal((count, components))
    means = 2 * rng.standard_normal((count, components))
    log_scales = rng.uniform(-12, 6, (count, components))
    magnitude = rng.choice(MAGNITUDES, count) * rng.choice([-1, 1], count)
    rows, k = np.arange(count), rng.integers(components, size=count)
    local = means[rows, k] + np.exp(log_scales[rows, k]) * magnitude
    return Points(np.where(rng.random(count) < 0.5, magnitude, local), logits, means, log_scales)


def extreme_points(rng: np.random.Generator, components: int, count: int) -> Points:
    """Draw |x| from 1e-30 to 1e30, log-scales to +-30 and logits to +-1e4, with |y| below 1e35."""
    x = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-30, 30, count)
    log_scales = rng.uniform(-30, 30, (count, components))
    log_scales = np.maximum(log_scales, np.log(np.abs(x))[:, None] - 80)
    means = rng.standard_normal((count, components)) * 10.0 ** rng.uniform(-3, 3, (count, 1))
    return Points(x, rng.uniform(-1e4, 1e4, (count, components)), means, log_scales)


def plane(columns: int, rows: int) -> tuple[Points, np.ndarray, np.ndarray]:
    """Return the typical mixture, its scales multiplied by e^c, over x and c.

    Returns:
        The points in row-major order; x `(columns,)`; c `(rows,)`.
    """
    half = np.geomspace(1e-2, 1e5, columns // 2)
    x = np.concatenate([-half[::-1], [0.0], half])
    c = np.linspace(-12, 6, rows)
    return repeat(np.tile(x, rows), np.repeat(c, len(x))), x, c


def ray(count: int) -> Points:
    """Return the typical mixture along both half-lines, |x| from 1e-2 to 1e30, the left one first.

    Each half-line has `count` points between 1 and 100, where flawed formulas start to fail, and a
    few per decade elsewhere.
    """
    half = np.concatenate(
        [np.geomspace(1e-2, 0.9, 9), np.geomspace(1, 100, count), np.geomspace(150, 1e30, 57)]
    )
    return repeat(np.concatenate([-half, half]), np.zeros(2 * len(half)))


def repeat(x: np.ndarray, c: np.ndarray) -> Points:
    """Return the typical mixture at points x with c added to its log-scales, both `(N,)`."""
    shape = (len(x), len(MEANS))
    return Points(
        x,
        np.broadcast_to(LOGITS, shape),
        np.broadcast_to(MEANS, shape),
        LOG_SCALES + c[:, None],
    )


def ordinary_targets(rng: np.random.Generator, components: int, count: int) -> Points:
    """Draw mixtures and targets y as in a model at initialization."""
    logits, means = rng.standard_normal((2, count, components))
    log_scales = 0.7 * rng.standard_normal((count, components)) - 0.7
    return Points(2 * rng.standard_normal(count), logits, means, log_scales)


def hard_targets(rng: np.random.Generator, components: int, count: int) -> Points:
    """Draw scales over eight orders of magnitude, and targets up to 1e6."""
    p = random_points(rng, components, count)
    target = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-1, 6, count)
    return p.at(target)
