"""Roots of increasing functions, element by element, with a certificate.

`find_root` is Chandrupatla's method (SciPy) run to the last bit: the truth. `bisection` is what
the paper and the released code do, kept so that it can be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

EPS = float(np.finfo(np.float64).eps)
MAX_EVALUATIONS = 2200  # halving the whole range of float64 down to one spacing takes 2100
MAX_POLISH = 64

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""function(x, index): values at the points x, a flat array; x[i] belongs to element index[i]."""


class RootFindingError(ArithmeticError):
    """A root was not found to the accuracy asked for."""


@dataclass(frozen=True, eq=False)
class Root:
    """Roots of function(x) = target, each field with the shape of the target.

    Attributes:
        root: the roots; NaN where the target or the bracket is NaN.
        residual: function(x) - target.
        width: of the bracket in the end; it holds the root.
        evaluations: of the function, for each element.
    """

    root: np.ndarray
    residual: np.ndarray
    width: np.ndarray
    evaluations: np.ndarray


def ulp(target: np.ndarray) -> np.ndarray:
    """The unit of error: eps * max(1, |target|)."""
    return EPS * np.maximum(1.0, np.abs(target))


def find_root(
    function: Function,
    target: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    ulps: float = 0.5,
) -> Root:
    """The x in [lower, upper] with function(x) = target, for an increasing function.

    A root counts as found when |function(x) - target| <= ulps * eps * max(1, |target|), or when
    two neighbouring float64 numbers straddle the target: then no x is better, and the nearer of
    the two (in value) is returned.

    Args:
        function: see `Function`.
        target: values to be reached.
        lower: left ends of the brackets, of the shape of the target.
        upper: right ends, likewise.
        ulps: the accuracy asked for.

    Raises:
        RootFindingError: if any element, other than NaN ones, is not found.
    """
    target = np.asarray(target, dtype=np.float64)
    known = np.isfinite(target) & ~np.isnan(lower) & ~np.isnan(upper)
    index = np.flatnonzero(known)
    t, a, b = (np.asarray(v, dtype=np.float64)[known] for v in (target, lower, upper))
    unit = ulp(t)

    def excess(x: np.ndarray, active: np.ndarray) -> np.ndarray:
        # In units of the permitted error, so that SciPy's one fatol serves every element.
        return (function(x, index[active]) - t[active]) / unit[active]

    active = np.arange(index.size)
    result = elementwise.find_root(
        excess,
        (a, b),
        args=(active,),
        tolerances={"fatol": ulps},
        maxiter=MAX_EVALUATIONS,
    )
    if not result.success.all():
        i = np.flatnonzero(~result.success)[0]
        raise RootFindingError(
            f"no root found for {np.count_nonzero(~result.success)} of {index.size} targets; "
            f"the first is {t[i]} with bracket [{a[i]}, {b[i]}] (SciPy status {result.status[i]})"
        )
    left, right = result.bracket
    value_left, value_right = result.f_bracket
    evaluations = result.nfev.astype(np.int64)

    # Chandrupatla's method may stop a few spacings short of the last bit: halve what remains.
    for _ in range(MAX_POLISH):
        middle = left + 0.5 * (right - left)
        open_ = (
            (np.minimum(np.abs(value_left), np.abs(value_right)) > ulps)
            & (left < middle)
            & (middle < right)
        )
        todo = np.flatnonzero(open_)
        if todo.size == 0:
            break
        value = excess(middle[todo], todo)
        evaluations[todo] += 1
        below = value < 0.0
        low, high = todo[below], todo[~below]
        left[low], value_left[low] = middle[low], value[below]
        right[high], value_right[high] = middle[high], value[~below]
    else:
        raise RootFindingError(f"brackets still open after {MAX_POLISH} bisections")

    take_left = np.abs(value_left) <= np.abs(value_right)
    x = np.where(take_left, left, right)
    residual = np.where(take_left, value_left, value_right) * unit
    return Root(
        root=_scatter(known, x, np.nan),
        residual=_scatter(known, residual, np.nan),
        width=_scatter(known, right - left, np.nan),
        evaluations=_scatter(known, evaluations, 0),
    )


def bisection(
    function: Function,
    target: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 200,
) -> Root:
    """Plain bisection: halve [lower, upper] until it is no wider than `tolerance`.

    It returns the middle of the last bracket whether or not the tolerance was reached, as
    published codes do; `width` and `residual` say what was. Each element stops by itself, after
    as many halvings as `evaluations` says.

    Args:
        function: see `Function`; increasing.
        target: values to be reached.
        lower: left ends of the brackets, of the shape of the target.
        upper: right ends, likewise.
        tolerance: on the bracket's width, in units of x.
        max_iterations: halvings at most.
    """
    target = np.asarray(target, dtype=np.float64)
    shape = target.shape
    t = target.ravel()
    left, right = (np.array(v, dtype=np.float64).ravel() for v in (lower, upper))
    iterations = np.zeros(t.size, dtype=np.int64)
    for _ in range(max_iterations):
        todo = np.flatnonzero(right - left > tolerance)
        if todo.size == 0:
            break
        middle = left[todo] + 0.5 * (right[todo] - left[todo])
        below = function(middle, todo) < t[todo]
        left[todo[below]] = middle[below]
        right[todo[~below]] = middle[~below]
        iterations[todo] += 1
    x = np.where(np.isnan(t), np.nan, left + 0.5 * (right - left))
    residual = function(x, np.arange(t.size)) - t
    return Root(
        root=x.reshape(shape),
        residual=residual.reshape(shape),
        width=(right - left).reshape(shape),
        evaluations=iterations.reshape(shape),
    )


def _scatter(mask: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """An array of the mask's shape: the values where it is true, `fill` elsewhere."""
    result = np.full(mask.shape, fill, dtype=values.dtype)
    result[mask] = values
    return result
