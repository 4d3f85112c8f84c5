"""Differences in units of the dtype under test, and where the worst of them is.

`ulps = |got - want| / unit`, with `unit = eps(dtype) * max(1, |want|)` unless a law brings a unit
that knows the conditioning of what is compared. NaN never equals NaN; an infinity equals itself.

Where such a unit is of the size of the value itself no finite answer could be wrong by many of
them: that is no comparison, and is counted as left open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OPEN = 2.0**-4
"""A unit of more than this part of the value leaves it open: the 16 ulps that most laws allow
would be all of it."""


@dataclass(frozen=True)
class Unresolved:
    """What a law could not compare: how many numbers or directions, and why."""

    count: int
    why: str


@dataclass(frozen=True)
class Comparison:
    """The worst point of a comparison.

    `ulps` is the error there, `index` where it is, `got` and `want` the two values, `unit` the
    size of one ulp at that point; `count` numbers were compared, `left_open` could not be.
    """

    ulps: float
    index: tuple[int, ...]
    got: float
    want: float
    unit: float
    count: int = 1
    left_open: int = 0

    def __str__(self) -> str:
        where = ", ".join(str(i) for i in self.index)
        return (
            f"{self.ulps:.3g} ulps at [{where}]: got {self.got:.17g}, want {self.want:.17g}, "
            f"1 ulp = {self.unit:.3g}"
        )


def unit_of(want: np.ndarray, dtype: np.dtype | str) -> np.ndarray:
    """`eps(dtype) * max(1, |want|)`: the default unit."""
    return np.finfo(dtype).eps * np.maximum(1.0, np.abs(np.asarray(want, np.float64)))


def ulps(
    got: np.ndarray,
    want: np.ndarray,
    dtype: np.dtype | str,
    *,
    unit: np.ndarray | None = None,
) -> np.ndarray:
    """Elementwise error in units of `dtype`; infinite where either side is NaN.

    Args:
        got: values under test, any float dtype.
        want: the truth, float64, same shape.
        dtype: the dtype under test, whose eps is the measure.
        unit: size of one ulp, same shape; `unit_of(want, dtype)` if not given.

    Raises:
        ValueError: the shapes differ (a comparison never broadcasts).
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        raise ValueError(f"shape {got.shape} where the reference has {want.shape}")
    if unit is None:
        unit = unit_of(want, dtype)
    with np.errstate(all="ignore"):
        error = np.abs(got - want) / unit
    error = np.where(got == want, 0.0, error)  # equal infinities would give NaN
    return np.where(np.isnan(error) | np.isnan(got) | np.isnan(want), np.inf, error)


def compare(
    got: np.ndarray,
    want: np.ndarray,
    dtype: np.dtype | str,
    *,
    unit: np.ndarray | None = None,
) -> Comparison:
    """The worst point of `ulps(got, want, dtype)`, where the unit leaves one to be seen.

    Without any its `count` is 0.
    """
    error = ulps(got, want, dtype, unit=unit)
    if unit is None:
        unit = unit_of(want, dtype)
    unit = np.broadcast_to(unit, error.shape)
    # Whatever the unit, a number where there is none, or none where there is one, is wrong.
    open_ = (unit > OPEN * np.maximum(1.0, np.abs(want))) & np.isfinite(got) & np.isfinite(want)
    left_open = int(np.count_nonzero(open_))
    if left_open == error.size:
        return Comparison(0.0, (), 0.0, 0.0, 0.0, count=0, left_open=left_open)
    flat = int(np.argmax(np.where(open_, -1.0, error)))
    index = tuple(int(i) for i in np.unravel_index(flat, error.shape))
    return Comparison(
        ulps=float(error[index]),
        index=index,
        got=float(np.asarray(got)[index]),
        want=float(np.asarray(want)[index]),
        unit=float(unit[index]),
        count=error.size - left_open,
        left_open=left_open,
    )
