"""The laws that densities integrate to 1, and that samples follow the density.

Both compare the implementation with itself, not with the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison
from conformance.numerics.quadrature import Density, Grid, integrate, noise_to_cover
from conformance.numerics.specs import round_to

Implementation = Callable[[Trial, str, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""The implementation, or the reference: (trial, direction, points) -> (array, log_det)."""

RESOLVED = 1e-8
"""Largest uncertainty of the quadrature that does not widen the unit."""
SAMPLES = 4000
FALSE_ALARM_RATE = 1e-6
"""Probability that a correct implementation fails one comparison, over random seeds."""


def normalization(trial: Trial) -> Findings:
    """Integral of the density = 1, by quadrature in 1-D and 2-D."""
    for density in trial.case.densities:
        grid = _grid(trial, density)
        unit = max(trial.eps * max(1.0, grid.uncertainty / RESOLVED), _rounding(trial, density))
        error = abs(grid.integral - 1.0) / unit
        if not np.isfinite(grid.integral):
            error = np.inf
        yield (
            f"integral of the density by {density.direction}",
            Comparison(error, (), grid.integral, 1.0, unit),
        )


def sampling(trial: Trial) -> Findings:
    """Samples follow the density: Kolmogorov-Smirnov distance over its critical value.

    The critical value sqrt(-ln(a / 2) / 2n) is exceeded with probability a = 1e-6.
    """
    critical = float(np.sqrt(-np.log(FALSE_ALARM_RATE / 2.0) / (2.0 * SAMPLES)))
    for density in trial.case.densities:
        grid = _grid(trial, density)
        noise = trial.rng("noise").standard_normal((SAMPLES, trial.x[0].size))
        samples = call(trial, density.opposite, noise)[0].reshape(SAMPLES, -1)
        if np.isnan(samples).any():
            raise Violation(f"{np.isnan(samples).any(axis=1).sum()} of {SAMPLES} samples are NaN")
        samples = _within(samples.astype(np.float64), density, trial.eps)
        for axis in range(samples.shape[1]):
            try:
                u, cdf = grid.marginal(axis)
            except FloatingPointError as error:
                raise Violation(str(error)) from error
            placed = np.sort(density.to_line(samples[:, axis]))
            claimed = np.interp(placed, u, cdf, left=0.0, right=cdf[-1])
            steps = np.arange(SAMPLES + 1) / SAMPLES
            distance = np.maximum(np.abs(claimed - steps[:-1]), np.abs(claimed - steps[1:]))
            worst = int(distance.argmax())
            # Between the grid's points the CDF is known to a quarter of its second difference.
            unit = critical + float(np.abs(np.diff(cdf, 2)).max()) / 4.0
            yield (
                f"CDF of samples by {density.opposite}, axis {axis}",
                Comparison(
                    float(distance[worst]) / unit,
                    (axis,),
                    float(steps[worst]),
                    float(claimed[worst]),
                    unit,
                ),
            )


def _within(samples: np.ndarray, density: Density, eps: float) -> np.ndarray:
    """Return the samples, moving those that rounding put beyond an end of the range to it.

    Raises:
        Violation: Samples lie further outside.
    """
    low, high = density.low, density.high
    if np.isinf(low):
        return samples
    slack = 4 * eps * max(1.0, abs(low), abs(high))
    beyond = (samples < low - slack) | (samples > high + slack)
    if beyond.any():
        raise Violation(
            f"{beyond.any(axis=1).sum()} of {SAMPLES} samples lie outside {low} ... {high}"
        )
    return np.clip(samples, low, high)


def _grid(trial: Trial, density: Density) -> Grid:
    def compute() -> Grid:
        try:
            return _integrated(trial, density, call)
        except FloatingPointError as error:
            raise Violation(str(error)) from error

    return trial.cached(("grid", density), compute)


def _integrated(trial: Trial, density: Density, implementation: Implementation) -> Grid:
    noise = noise_to_cover(trial.x[0].size)
    reached, _ = _reference(trial, density.opposite, noise)
    return integrate(
        density,
        lambda x: _log_density(trial, density, x, implementation),
        reached.reshape(len(noise), -1),
    )


def _rounding(trial: Trial, density: Density) -> float:
    """Return the change of the true integral when the grid's points are rounded to float32.

    It is large near an end of an interval such as 1, where floats are far apart compared with the
    distance to the end.
    """
    if trial.dtype == np.float64 or np.isinf(density.low):
        return 0.0
    return abs(_integrated(trial, density, _reference).integral - 1.0)


def _log_density(
    trial: Trial, density: Density, x: np.ndarray, implementation: Implementation
) -> np.ndarray:
    if np.isfinite(density.low):  # rounding may put a point on the end
        ends = np.array([density.low, density.high], trial.dtype)
        inner = np.nextafter(ends, ends[::-1])
        x = np.clip(round_to(x, trial.dtype), *inner.astype(np.float64))
    z, log_det = implementation(trial, density.direction, x)
    z = z.reshape(len(x), -1).astype(np.float64)
    log_normal = -0.5 * (z * z + np.log(2.0 * np.pi)).sum(axis=1)
    return np.where(np.isinf(z).any(axis=1), -np.inf, log_normal + log_det)


def call(trial: Trial, direction: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the implementation's (array, log_det) at points (n, D), with the first context."""
    x = points.reshape(len(points), *_shape(trial, direction))
    return getattr(trial, direction)(x, _context(trial, len(x)))


def _reference(trial: Trial, direction: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = points.reshape(len(points), *_shape(trial, direction))
    with np.errstate(all="ignore"):
        return getattr(trial.spec, direction)(x, _context(trial, len(x)))


def _shape(trial: Trial, direction: str) -> tuple[int, ...]:
    return (trial.x if direction == "forward" else trial.want_forward[0]).shape[1:]


def _context(trial: Trial, count: int) -> np.ndarray | None:
    """Return the context of the first example, for all points."""
    return None if trial.context is None else np.repeat(trial.context[:1], count, axis=0)
