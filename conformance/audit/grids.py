"""Where the audit looks: mixtures and points, rounded to the dtype under test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MAGNITUDES = (0.0, 1e-3, 1.0, 5.0, 10.0, 30.0, 100.0, 1e3)

# A mixture like those that a trained coupling uses: four overlapping components.
LOGITS = np.array([0.0, 0.5, -0.5, 0.2])
MEANS = np.array([-1.5, -0.3, 0.4, 2.0])
LOG_SCALES = np.array([-1.0, -0.5, 0.0, -0.7])


@dataclass(frozen=True)
class Points:
    """N points, each with a mixture of its own.

    Attributes:
        x: `(N,)`; a target y where an inverse is audited.
        logits, means, log_scales: `(N, K)`.
    """

    x: np.ndarray
    logits: np.ndarray
    means: np.ndarray
    log_scales: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def rows(self) -> Iterator[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
        """Point by point."""
        return zip(self.x, self.logits, self.means, self.log_scales, strict=True)

    @property
    def parameters(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mixtures."""
        return self.logits, self.means, self.log_scales

    def rounded(self, dtype: str) -> Points:
        """The same with values of `dtype`, kept as float64."""
        arrays = (self.x, *self.parameters)
        return Points(*(a.astype(dtype).astype(np.float64) for a in arrays))

    def at(self, x: np.ndarray) -> Points:
        """The same mixtures at other points."""
        return Points(np.asarray(x, dtype=np.float64), *self.parameters)

    def take(self, which: np.ndarray) -> Points:
        """Some of the points, by index or mask."""
        return Points(self.x[which], *(p[which] for p in self.parameters))


def random_points(rng: np.random.Generator, components: int, count: int) -> Points:
    """Mixtures with scales over eight orders of magnitude, points on their scales and absolute."""
    logits = rng.standard_normal((count, components))
    means = 2 * rng.standard_normal((count, components))
    log_scales = rng.uniform(-12, 6, (count, components))
    magnitude = rng.choice(MAGNITUDES, count) * rng.choice([-1, 1], count)
    rows, k = np.arange(count), rng.integers(components, size=count)
    local = means[rows, k] + np.exp(log_scales[rows, k]) * magnitude
    return Points(np.where(rng.random(count) < 0.5, magnitude, local), logits, means, log_scales)


def extreme_points(rng: np.random.Generator, components: int, count: int) -> Points:
    """|x| from 1e-30 to 1e30, log-scales to +-30, logits to +-1e4; |y| stays below 1e35."""
    x = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-30, 30, count)
    log_scales = rng.uniform(-30, 30, (count, components))
    log_scales = np.maximum(log_scales, np.log(np.abs(x))[:, None] - 80)
    means = rng.standard_normal((count, components)) * 10.0 ** rng.uniform(-3, 3, (count, 1))
    return Points(x, rng.uniform(-1e4, 1e4, (count, components)), means, log_scales)


def plane(columns: int, rows: int) -> tuple[Points, np.ndarray, np.ndarray]:
    """The usual mixture, its scales multiplied by e^c, over x and c.

    Returns:
        The points, row after row; x `(columns,)`; c `(rows,)`.
    """
    half = np.geomspace(1e-2, 1e5, columns // 2)
    x = np.concatenate([-half[::-1], [0.0], half])
    c = np.linspace(-12, 6, rows)
    return repeat(np.tile(x, rows), np.repeat(c, len(x))), x, c


def ray(count: int) -> Points:
    """The usual mixture along both half-lines, |x| from 1e-2 to 1e30; the left one first.

    `count` points lie between 1 and 100, where formulas break, and a few in every decade outside.
    """
    half = np.concatenate(
        [np.geomspace(1e-2, 0.9, 9), np.geomspace(1, 100, count), np.geomspace(150, 1e30, 57)]
    )
    return repeat(np.concatenate([-half, half]), np.zeros(2 * len(half)))


def repeat(x: np.ndarray, c: np.ndarray) -> Points:
    """The usual mixture at points x, its log-scales moved by c, both `(N,)`."""
    shape = (len(x), len(MEANS))
    return Points(
        x,
        np.broadcast_to(LOGITS, shape),
        np.broadcast_to(MEANS, shape),
        LOG_SCALES + c[:, None],
    )


def ordinary_targets(rng: np.random.Generator, components: int, count: int) -> Points:
    """Mixtures and targets y as a model at initialization has them."""
    logits, means = rng.standard_normal((2, count, components))
    log_scales = 0.7 * rng.standard_normal((count, components)) - 0.7
    return Points(2 * rng.standard_normal(count), logits, means, log_scales)


def hard_targets(rng: np.random.Generator, components: int, count: int) -> Points:
    """Scales over eight orders of magnitude, targets up to 1e6."""
    p = random_points(rng, components, count)
    target = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-1, 6, count)
    return p.at(target)
