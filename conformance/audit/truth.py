"""Exact logistic mixture in mpmath: values, gradients, and their conditioning.

With lw = log_softmax(logits), z_k = (x - mu_k) exp(-s_k) and F = sum_k w_k sigmoid(z_k):

    y = log F - log (1 - F)        l = log dy/dx = log f - log F - log (1 - F)

directly from the definitions: with fifty digits and an unbounded exponent the tails need no
special treatment. Inputs are taken as exact, so round them to the dtype under test first.

Results are stored as the sum of two float64 numbers, `high + low`: about a hundred bits, so that
errors of float64 can be measured with array arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from mpmath import mp, mpf

from .grids import Points

DIGITS = 50


@dataclass(frozen=True)
class DoubleDouble:
    """Exact values as unevaluated sums `high + low` of arrays of one shape."""

    high: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, values: list[Any]) -> DoubleDouble:
        """Convert mpmath numbers, or lists of them."""
        high = np.array([_rounded(v) for v in values], dtype=np.float64)
        rest = [_remainders(v, h) for v, h in zip(values, high, strict=True)]
        return cls(high, np.array(rest, dtype=np.float64))

    def error(self, got: np.ndarray) -> np.ndarray:
        """Return |got - exact|, infinite where `got` is not finite."""
        got = np.asarray(got, dtype=np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs((got - self.high) - self.low)
        return np.where(np.isfinite(got), error, np.inf)


@dataclass(frozen=True)
class Truth:
    """Exact results at N points of mixtures with K components.

    Attributes:
        y, l: Value and log-derivative, `(N,)`.
        y_x: dy/dx, `(N,)`; 0 below float64's smallest number.
        l_x: dl/dx, `(N,)`.
        l_x_size: Sum of the magnitudes of its terms, which cancel, `(N,)`.
        y_logits, y_means, y_log_scales: Gradients of y by the parameters, `(N, K)`.
        y_z_size: Largest of the components' dy/dz_k, `(N,)`.
        y_condition, l_condition: Change of the result under a relative change of eps in every
            input, in units of eps max(1, |result|), `(N,)`.
    """

    y: DoubleDouble
    l: DoubleDouble  # noqa: E741, the symbol of the formulas
    y_x: DoubleDouble
    l_x: DoubleDouble
    l_x_size: np.ndarray
    y_logits: DoubleDouble
    y_means: DoubleDouble
    y_log_scales: DoubleDouble
    y_z_size: np.ndarray
    y_condition: np.ndarray
    l_condition: np.ndarray


def truth(points: Points) -> Truth:
    """Return all exact results; takes some hundred microseconds per point and component."""
    rows: dict[str, list[Any]] = {field.name: [] for field in fields(Truth)}
    with mp.workdps(DIGITS):
        for x, *parameters in points.rows():
            for name, value in _point(x, *parameters).items():
                rows[name].append(value)
        columns: dict[str, Any] = {
            name: np.array([float(v) for v in values])
            if name.endswith(("size", "condition"))
            else DoubleDouble.of(values)
            for name, values in rows.items()
        }
        return Truth(**columns)


def value(points: Points) -> DoubleDouble:
    """Return y only, four times as fast as `truth`."""
    with mp.workdps(DIGITS):
        return DoubleDouble.of([_Mixture(*row).y for row in points.rows()])


class _Mixture:
    """Sums over the components of one mixture at one point."""

    def __init__(
        self, x: float, logits: np.ndarray, means: np.ndarray, log_scales: np.ndarray
    ) -> None:
        weights = [mp.exp(mpf(v)) for v in logits.tolist()]
        total = mp.fsum(weights)
        self.w = [weight / total for weight in weights]
        self.rate = [mp.exp(-mpf(v)) for v in log_scales.tolist()]
        self.z = [
            (mpf(float(x)) - mpf(mean)) * rate
            for mean, rate in zip(means.tolist(), self.rate, strict=True)
        ]
        self.low, self.high = [], []  # sigmoid(z), sigmoid(-z)
        for z in self.z:
            e = mp.exp(-abs(z))
            small, large = e / (1 + e), 1 / (1 + e)
            self.low.append(large if z > 0 else small)
            self.high.append(small if z > 0 else large)
        self.below = [w * p for w, p in zip(self.w, self.low, strict=True)]
        self.above = [w * q for w, q in zip(self.w, self.high, strict=True)]
        self.cdf, self.survival = mp.fsum(self.below), mp.fsum(self.above)
        self.y = mp.log(self.cdf) - mp.log(self.survival)


def _point(
    x: float, logits: np.ndarray, means: np.ndarray, log_scales: np.ndarray
) -> dict[str, Any]:
    m = _Mixture(x, logits, means, log_scales)
    densities = [above * p * rate for above, p, rate in zip(m.above, m.low, m.rate, strict=True)]
    density = mp.fsum(densities)
    # Shares of the components in F, in 1 - F and in the density.
    a = [v / m.cdf for v in m.below]
    b = [v / m.survival for v in m.above]
    d = [v / density for v in densities]
    y = m.y
    log_derivative = mp.log(density / m.cdf / m.survival)

    components = range(len(a))
    y_z = [a[k] * m.high[k] + b[k] * m.low[k] for k in components]
    l_z = [(d[k] - a[k]) * m.high[k] - (d[k] - b[k]) * m.low[k] for k in components]
    y_x = mp.fsum(v * rate for v, rate in zip(y_z, m.rate, strict=True))
    l_x = mp.fsum(v * rate for v, rate in zip(l_z, m.rate, strict=True))
    y_logits = [a[k] - b[k] for k in components]
    y_means = [-y_z[k] * m.rate[k] for k in components]
    y_log_scales = [-y_z[k] * m.z[k] for k in components]
    inputs = (logits.tolist(), means.tolist(), log_scales.tolist())
    l_gradients = (
        [d[k] - a[k] - b[k] + m.w[k] for k in components],
        [-l_z[k] * m.rate[k] for k in components],
        [-l_z[k] * m.z[k] - d[k] for k in components],
    )
    return {
        "y": y,
        "l": log_derivative,
        "y_x": y_x,
        "l_x": l_x,
        "l_x_size": mp.fsum(
            m.rate[k] * ((d[k] + a[k]) * m.high[k] + (d[k] + b[k]) * m.low[k]) for k in components
        ),
        "y_logits": y_logits,
        "y_means": y_means,
        "y_log_scales": y_log_scales,
        "y_z_size": max(y_z),
        "y_condition": _condition(x, y_x, inputs, (y_logits, y_means, y_log_scales), y),
        "l_condition": _condition(x, l_x, inputs, l_gradients, log_derivative),
    }


def _condition(x: float, by_x: Any, inputs: Any, gradients: Any, result: Any) -> Any:
    """Return sum_i |input_i * d result / d input_i| / max(1, |result|)."""
    total = abs(mpf(float(x)) * by_x) + mp.fsum(
        abs(mpf(v) * g)
        for values, gradient in zip(inputs, gradients, strict=True)
        for v, g in zip(values, gradient, strict=True)
    )
    return total / max(mpf(1), abs(result))


def _rounded(value: Any) -> Any:
    return [float(v) for v in value] if isinstance(value, list) else float(value)


def _remainders(value: Any, high: Any) -> Any:
    if isinstance(value, list):
        return [_remainders(v, h) for v, h in zip(value, high, strict=True)]
    return float(value - mpf(float(high))) if np.isfinite(high) else 0.0
