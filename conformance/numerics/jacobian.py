"""The full Jacobian of a map and of its log-det, by extrapolated central differences.

`J[b, i, j] = d y_i / d x_j` for every example b, from `(f(x + h e_j) - f(x - h e_j)) / 2h` for a
decreasing sequence of h, extrapolated to h = 0 (Richardson), keeping for each entry the
extrapolation whose neighbours agree best (Ridders). A column stops when it has converged, so that
smooth maps take few evaluations and steep ones (a logistic of scale 1e-5) get the small steps they
need. All perturbations of a level go through the map as one batch.

References:
    Ridders, C. J. F., "Accurate computation of F'(x) and F'(x) F''(x)", 1982.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)
MAX_STEP = 2.0**-5
CONTRACTION = 4.0
MIN_LEVELS = 4
MAX_LEVELS = 14
MAX_ORDER = 5
"""Orders of extrapolation: higher ones only add rounding."""
CONVERGED = 1e-10
"""Error, relative to a column's largest entry, at which the column has converged."""
MAX_BATCH = 2048

Interval = tuple[float, float]
EVERYWHERE: Interval = (-np.inf, np.inf)

Pair = tuple[np.ndarray, np.ndarray]
Bijection = Callable[..., Pair]


@dataclass(frozen=True)
class Jacobian:
    """The Jacobian of a map at a batch of points, by finite differences.

    Attributes:
        matrix: d y_i / d x_j, `(B, D, D)`.
        error: Estimated error of each entry, `(B, D, D)`.
        log_det_gradient: d log_det / d x_j of the log-det that the map returned, `(B, D)`.
        log_det_gradient_error: Its estimated error, `(B, D)`.
    """

    matrix: np.ndarray
    error: np.ndarray
    log_det_gradient: np.ndarray
    log_det_gradient_error: np.ndarray

    def log_det(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `log|det J|` for each example, and its uncertainty.

        The uncertainty is first-order: `sum_ij |J^-1|_ji error_ij`, infinite for a singular J.
        """
        finite = np.isfinite(self.matrix).all(axis=(1, 2))
        matrix = np.where(finite[:, None, None], self.matrix, np.eye(self.matrix.shape[1]))
        log_abs = np.linalg.slogdet(matrix)[1]
        with np.errstate(invalid="ignore"):  # inf * 0 where a column is 0
            inverse = np.abs(inverse_or_inf(matrix)).swapaxes(1, 2)
            uncertainty = (inverse * self.error).sum((1, 2))
        bad = ~finite | ~np.isfinite(log_abs) | ~np.isfinite(uncertainty)
        return np.where(bad, np.nan, log_abs), np.where(bad, np.inf, uncertainty)


def inverse_or_inf(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of each `(D, D)` matrix of a batch.

    A diagonal matrix is inverted entry by entry, infinite where it is 0 (an elementwise map can be
    flat at one point and not at others); any other singular or non-finite one is all infinite.
    """
    result = np.full_like(matrix, np.inf)
    for b, m in enumerate(matrix):
        diagonal = np.diagonal(m)
        if np.count_nonzero(m) == np.count_nonzero(diagonal):
            with np.errstate(divide="ignore"):
                result[b] = np.diag(1.0 / diagonal)
        elif np.isfinite(m).all() and np.isfinite(np.linalg.slogdet(m)[1]):
            result[b] = np.linalg.inv(m)
    return result


def jacobian(
    bijection: Bijection,
    x: np.ndarray,
    context: np.ndarray | None = None,
    *,
    fixed_batch: bool = False,
    noise: np.ndarray | None = None,
    domain: Interval = EVERYWHERE,
) -> Jacobian:
    """Return the Jacobian of a map `(x, context) -> (y, log_det)` at every example of `x`.

    Args:
        bijection: The map; examples must not influence each other.
        x: Points `(B, ...)`, D numbers per example.
        context: `(B, ...)` or None.
        fixed_batch: Whether the map takes batches of exactly B (parameters that differ by
            example): then one coordinate of all examples is changed at a time.
        noise: Absolute error of y and log_det beyond eps times their size, `(B, D + 1)`: for a
            map computed by root finding, the effect of rounding on the root.
        domain: Open interval of every coordinate; no step leaves it, because a map may refuse a
            whole batch for one number outside. At its ends no difference can be taken.

    Returns:
        The Jacobian. Entries where the map is not finite at any step are NaN, with an infinite
        error.
    """
    x = np.asarray(x, np.float64)
    batch, dimension = x.shape[0], int(np.prod(x.shape[1:]))
    evaluate = _whole_batches if fixed_batch else _stacked
    example, column = (a.ravel() for a in np.indices((batch, dimension)))
    center = x.reshape(batch, dimension)[example, column]
    step = MAX_STEP * np.maximum(1.0, np.abs(center))
    room = np.maximum(np.minimum(center - domain[0], domain[1] - center), 0.0)
    step = np.minimum(step, 0.5 * room)

    columns = _Extrapolation(batch * dimension, dimension + 1)
    for level in range(MAX_LEVELS):
        active = columns.active
        h = step[active] * CONTRACTION**-level
        above, below = center[active] + h, center[active] - h
        high, low = evaluate(bijection, x, context, example[active], column[active], above, below)
        with np.errstate(all="ignore"):
            width = (above - below)[:, None]  # twice the step, as rounded
            rounding = EPS * np.maximum(np.abs(high), np.abs(low))
            if noise is not None:
                rounding += noise[example[active]]
            rounding /= width
            columns.add((high - low) / width, rounding)
            if level + 1 >= MIN_LEVELS:
                columns.drop_converged(rounding)
        if columns.active.size == 0:
            break

    shape = (batch, dimension, dimension + 1)
    best, error = columns.best.reshape(shape), columns.error.reshape(shape)
    return Jacobian(
        matrix=best[:, :, :-1].swapaxes(1, 2),
        error=error[:, :, :-1].swapaxes(1, 2),
        log_det_gradient=best[:, :, -1],
        log_det_gradient_error=error[:, :, -1],
    )


class _Extrapolation:
    """Richardson extrapolation of difference quotients, with Ridders' error estimate.

    Attributes:
        best: Best extrapolation of each entry, `(columns, entries)`.
        error: Its estimated error.
        active: Indices of the columns that have not converged.
    """

    def __init__(self, columns: int, entries: int) -> None:
        self.best = np.full((columns, entries), np.nan)
        self.error = np.full(self.best.shape, np.inf)
        self.active = np.arange(columns)
        self._row: list[np.ndarray] = []  # the last row of each active column's tableau

    def add(self, quotient: np.ndarray, rounding: np.ndarray) -> None:
        """Add the difference quotients of the next smaller step, with their rounding errors."""
        previous, self._row = self._row, [quotient]
        for order, coarser in enumerate(previous[:MAX_ORDER], start=1):
            factor = CONTRACTION ** (2 * order)
            finer = self._row[-1]
            extrapolated = finer + (finer - coarser) / (factor - 1.0)
            # Two levels cannot agree better than rounding allows.
            error = rounding + np.maximum(
                np.abs(extrapolated - finer), np.abs(extrapolated - coarser)
            )
            better = error < self.error[self.active]
            self.best[self.active] = np.where(better, extrapolated, self.best[self.active])
            self.error[self.active] = np.where(better, error, self.error[self.active])
            self._row.append(extrapolated)

    def drop_converged(self, rounding: np.ndarray) -> None:
        """Remove the columns whose error smaller steps cannot reduce, or need not."""
        scale = np.abs(self.best[self.active]).max(axis=1, keepdims=True)
        # Smaller steps only add rounding: an error below it cannot improve.
        sufficient = np.maximum(CONVERGED * scale, np.nan_to_num(rounding))
        remaining = ~(self.error[self.active] <= sufficient).all(axis=1)
        self.active = self.active[remaining]
        self._row = [row[remaining] for row in self._row]


def derivative(function: Callable[[float], float], *, noise: float = 0.0) -> tuple[float, float]:
    """Return the derivative at 0 of a function of one number of size 1, and its estimated error.

    Args:
        function: The function.
        noise: Absolute error of its values, beyond eps times their size.
    """

    def as_bijection(t: np.ndarray, context: None) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[function(float(v))] for v in t[:, 0]]), np.zeros(len(t))

    found = jacobian(as_bijection, np.zeros((1, 1)), noise=np.array([[noise, 0.0]]))
    return float(found.matrix[0, 0, 0]), float(found.error[0, 0, 0])


def _stacked(
    bijection: Bijection,
    x: np.ndarray,
    context: np.ndarray | None,
    example: np.ndarray,
    column: np.ndarray,
    above: np.ndarray,
    below: np.ndarray,
) -> Pair:
    """Return `f(above)` and `f(below)` for each (example, column), log-det last, in few calls."""
    results = []
    for start in range(0, len(example), MAX_BATCH // 2):
        part = slice(start, start + MAX_BATCH // 2)
        chosen = example[part]
        flat = np.repeat(x.reshape(len(x), -1)[chosen][None], 2, axis=0)
        at = np.arange(len(chosen)), column[part]
        flat[0][at], flat[1][at] = above[part], below[part]
        points = flat.reshape(-1, *x.shape[1:])
        both_contexts = None if context is None else np.concatenate([context[chosen]] * 2)
        results.append(np.split(_flat(bijection, points, both_contexts), 2))
    high, low = (np.concatenate(part) for part in zip(*results, strict=True))
    return high, low


def _whole_batches(
    bijection: Bijection,
    x: np.ndarray,
    context: np.ndarray | None,
    example: np.ndarray,
    column: np.ndarray,
    above: np.ndarray,
    below: np.ndarray,
) -> Pair:
    """Return the same as `_stacked`, changing one coordinate of the whole batch at a time."""
    high, low = np.empty((2, len(example), x[0].size + 1))
    for j in np.unique(column):
        chosen = np.flatnonzero(column == j)
        for result, moved in ((high, above), (low, below)):
            flat = x.reshape(len(x), -1).copy()
            flat[example[chosen], j] = moved[chosen]
            result[chosen] = _flat(bijection, flat.reshape(x.shape), context)[example[chosen]]
    return high, low


def _flat(bijection: Bijection, x: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    with np.errstate(all="ignore"):
        y, log_det = bijection(x, context)
    return np.concatenate(
        [np.asarray(y, np.float64).reshape(len(x), -1), np.asarray(log_det, np.float64)[:, None]],
        axis=1,
    )
