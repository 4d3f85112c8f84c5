"""Comparison of values in ulps of the dtype under test.

`ulps = |got - want| / unit`, with `unit = eps(dtype) * max(1, |want|)` unless a law gives a unit
that accounts for the conditioning. NaN never equals NaN; an infinity equals itself.

Where the given unit is as large as the value itself, no finite result could be many units off.
Such values are not compared and are counted as unresolved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MAX_RELATIVE_UNIT = 2.0**-4
"""Largest unit, relative to the value, at which a comparison means anything: most laws allow 16
ulps, which would be the value itself."""


class WrongShape(ValueError):
    """Raised for results of another shape than the truth: a comparison never broadcasts."""


@dataclass(frozen=True)
class Unresolved:
    """Number of values or directions that a law could not compare, and the reason."""

    count: int
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The worst point of a comparison.

    Attributes:
        ulps: Error there.
        index: Index of the point.
        got, want: Value under test, and the truth.
        unit: Size of one ulp at the point.
        count: Number of values compared.
        unresolved: Number of values not compared, because their unit is too large.
    """

    ulps: float
    index: tuple[int, ...]
    got: float
    want: float
    unit: float
    count: int = 1
    unresolved: int = 0

    @classmethod
    def exact(cls, count: int) -> Comparison:
        """Return the comparison of `count` values without an error."""
        return cls(0.0, (), 0.0, 0.0, 0.0, count=count)

    def __str__(self) -> str:
        where = ", ".join(str(i) for i in self.index)
        return (
            f"{self.ulps:.3g} ulps at [{where}]: got {self.got:.17g}, want {self.want:.17g}, "
            f"1 ulp = {self.unit:.3g}"
        )


def unit_of(want: np.ndarray, dtype: np.dtype | str) -> np.ndarray:
    """Return the default unit, `eps(dtype) * max(1, |want|)`."""
    return np.finfo(dtype).eps * np.maximum(1.0, np.abs(np.asarray(want, np.float64)))


def ulps(
    got: np.ndarray,
    want: np.ndarray,
    dtype: np.dtype | str,
    *,
    unit: np.ndarray | None = None,
) -> np.ndarray:
    """Return the elementwise error in ulps of `dtype`; infinite where either side is NaN.

    Args:
        got: Values under test, any float dtype.
        want: The truth, float64, same shape.
        dtype: The dtype under test.
        unit: Size of one ulp, same shape; `unit_of(want, dtype)` by default.

    Raises:
        WrongShape: The shapes differ.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        raise WrongShape(f"shape must be the reference's {want.shape}, got {got.shape}")
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
    """Return the worst point of `ulps(got, want, dtype)`; its `count` is 0 if none is resolved."""
    error = ulps(got, want, dtype, unit=unit)
    if unit is None:
        unit = unit_of(want, dtype)
    unit = np.broadcast_to(unit, error.shape)
    # A finite value for a non-finite one, or the reverse, is wrong whatever the unit.
    too_large = unit > MAX_RELATIVE_UNIT * np.maximum(1.0, np.abs(want))
    skipped = too_large & np.isfinite(got) & np.isfinite(want)
    unresolved = int(np.count_nonzero(skipped))
    if unresolved == error.size:
        return replace(Comparison.exact(0), unresolved=unresolved)
    flat = int(np.argmax(np.where(skipped, -1.0, error)))
    index = tuple(int(i) for i in np.unravel_index(flat, error.shape))
    return Comparison(
        ulps=float(error[index]),
        index=index,
        got=float(np.asarray(got)[index]),
        want=float(np.asarray(want)[index]),
        unit=float(unit[index]),
        count=error.size - unresolved,
        unresolved=unresolved,
    )
