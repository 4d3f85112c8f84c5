"""Roots of increasing functions, element by element, with a certificate.

`find_root` is Chandrupatla's method (SciPy) run to the last bit: the ground truth. `bisection` is
the method of the paper and of the released code, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

EPS = float(np.finfo(np.float64).eps)
MAX_EVALUATIONS = 2200  # halving the whole range of float64 down to one spacing takes 2100
MAX_HALVINGS = 64  # after Chandrupatla's method

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""function(x, index) -> values at the flat array x, where x[i] belongs to element index[i]."""


class RootFindingError(ArithmeticError):
    """Raised when a root was not found to the required accuracy."""


@dataclass(frozen=True, eq=False)
class Root:
    """Roots of function(x) = target with their certificate, each field of the target's shape.

    Attributes:
        root: roots x; NaN where the target or the bracket is NaN.
        residual: function(x) - target.
        width: width of the last bracket, which holds the root.
        evaluations: number of function evaluations for each element.
    """

    root: np.ndarray
    residual: np.ndarray
    width: np.ndarray
    evaluations: np.ndarray


def ulp(target: np.ndarray) -> np.ndarray:
    """Compute the unit of error: eps * max(1, |target|)."""
    return EPS * np.maximum(1.0, np.abs(target))


def find_root(
    function: Function,
    target: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    ulps: float = 0.5,
) -> Root:
    """Find the x in [lower, upper] with function(x) = target, for an increasing function.

    A root is found when |function(x) - target| <= ulps * eps * max(1, |target|), or when two
    adjacent float64 numbers straddle the target: no x is better then, and the one with the smaller
    residual is returned.

    Args:
        function: see `Function`.
        target: function values to reach.
        lower: lower bracket ends, of the target's shape.
        upper: upper bracket ends, of the target's shape.
        ulps: size of an acceptable residual, in units of eps * max(1, |target|).

    Raises:
        RootFindingError: a root was not found, for an element without NaN.
    """
    target = np.asarray(target, dtype=np.float64)
    known = np.isfinite(target) & ~np.isnan(lower) & ~np.isnan(upper)
    index = np.flatnonzero(known)
    t, a, b = (np.asarray(v, dtype=np.float64)[known] for v in (target, lower, upper))
    unit = ulp(t)

    def excess(x: np.ndarray, active: np.ndarray) -> np.ndarray:
        # In units of each element's error, as SciPy takes one fatol for all elements.
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
    a, b = result.bracket
    below, above = result.f_bracket  # residuals at the bracket's ends
    evaluations = result.nfev.astype(np.int64)

    # Chandrupatla's method may stop a few spacings before the last bit: halve the rest.
    _halve(excess, (a, b), (below, above), evaluations, ulps)

    better_end = np.abs(below) <= np.abs(above)
    x = np.where(better_end, a, b)
    residual = np.where(better_end, below, above) * unit
    return Root(
        root=_scatter(known, x, np.nan),
        residual=_scatter(known, residual, np.nan),
        width=_scatter(known, b - a, np.nan),
        evaluations=_scatter(known, evaluations, 0),
    )


def _halve(
    excess: Function,
    bracket: tuple[np.ndarray, np.ndarray],
    residuals: tuple[np.ndarray, np.ndarray],
    evaluations: np.ndarray,
    ulps: float,
) -> None:
    """Halve brackets, in place, until a residual is at most `ulps` or the ends are adjacent."""
    (a, b), (below, above) = bracket, residuals
    for _ in range(MAX_HALVINGS):
        middle = a + 0.5 * (b - a)
        inaccurate = np.minimum(np.abs(below), np.abs(above)) > ulps
        todo = np.flatnonzero(inaccurate & (a < middle) & (middle < b))
        if todo.size == 0:
            return
        residual = excess(middle[todo], todo)
        evaluations[todo] += 1
        negative = residual < 0.0
        low, high = todo[negative], todo[~negative]
        a[low], below[low] = middle[low], residual[negative]
        b[high], above[high] = middle[high], residual[~negative]
    raise RootFindingError(f"brackets still open after {MAX_HALVINGS} halvings")


def bisection(
    function: Function,
    target: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 200,
) -> Root:
    """Find roots by plain bisection: halve [lower, upper] until it is at most `tolerance` wide.

    As in published codes, the middle of the last bracket is returned whether or not the tolerance
    was reached; `width` and `residual` show the accuracy. Each element stops by itself;
    `evaluations` is its number of halvings.

    Args:
        function: see `Function`; increasing.
        target: function values to reach.
        lower: lower bracket ends, of the target's shape.
        upper: upper bracket ends, of the target's shape.
        tolerance: bracket width at which an element stops, in units of x.
        max_iterations: maximum number of halvings.

    Source: Flow++ section 3.2.1.
    """
    target = np.asarray(target, dtype=np.float64)
    shape = target.shape
    t = target.ravel()
    a, b = (np.array(v, dtype=np.float64).ravel() for v in (lower, upper))
    iterations = np.zeros(t.size, dtype=np.int64)
    for _ in range(max_iterations):
        todo = np.flatnonzero(b - a > tolerance)
        if todo.size == 0:
            break
        middle = a[todo] + 0.5 * (b[todo] - a[todo])
        negative = function(middle, todo) < t[todo]
        a[todo[negative]] = middle[negative]
        b[todo[~negative]] = middle[~negative]
        iterations[todo] += 1
    x = np.where(np.isnan(t), np.nan, a + 0.5 * (b - a))
    residual = function(x, np.arange(t.size)) - t
    return Root(
        root=x.reshape(shape),
        residual=residual.reshape(shape),
        width=(b - a).reshape(shape),
        evaluations=iterations.reshape(shape),
    )


def _scatter(mask: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """Return an array of the mask's shape: `values` where it is true, `fill` elsewhere."""
    result = np.full(mask.shape, fill, dtype=values.dtype)
    result[mask] = values
    return result
