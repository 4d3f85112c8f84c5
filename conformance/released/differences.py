"""Differences, their tolerances, and the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Quantities = dict[str, np.ndarray]

# Absolute, derived from the released code's own float32 runs and an independent float64
# computation: z and states, log-dets and log-probabilities, bits/dim, inverses.
TOLERANCES = {
    "f64": {"state": 1e-9, "logd": 1e-8, "bpd": 1e-11, "inverse": 1e-6, "rounded": 1e-6},
    "f32": {"state": 1e-3, "bpd": 1e-5, "inverse": 1e-2, "rounded": 1e-3},
}
LOG_ROUNDINGS = 8.0
"""Tolerance of float32 log-dets and log-probabilities, in eps of the largest one in the file.

Each is a sum over n elements of the chain, of sums over D numbers, in float32 on both sides. The
partial sums reach the size S of the largest one, so each of n + log2(D) additions rounds by up to
eps / 2 * S. At worst that is (n + log2(D)) eps / 2 * S, 26 to 29 eps of S for the recorded models
(n = 44 or 49, D = 192 or 384); of independent roundings, sqrt(n + log2(D)) eps / 2 * S, or 3.8
eps. Two computations differ by 1.4 times that, 5.4 eps. The recorded ones differ by up to 1.7.
"""
MAX_SLACK = 100.0
"""Largest effect of the CDF's rounding on an example that is compared, in tolerances."""
MEDIAN = 0.05
"""Tolerance of the median error, in tolerances: 5e-4 of an inverse in float32."""


@dataclass(frozen=True)
class Row:
    """One compared quantity.

    Args:
        quantity: Name in the file.
        implementation: "flowpp" or "reference".
        precision: "f32" or "f64".
        error: Largest difference, absolute or relative as the tolerance is.
        tolerance: Largest allowed error.
        note: How the two were made comparable, if they are not compared directly.
        comparable: Whether there is anything to compare.
    """

    quantity: str
    implementation: str
    precision: str
    error: float
    tolerance: float
    note: str = ""
    comparable: bool = True

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; False for NaN."""
        return self.comparable and bool(self.error <= self.tolerance)

    @property
    def differs(self) -> bool:
        """Whether something was compared and does not hold."""
        return self.comparable and not self.holds


def kind_of(name: str, *, rounded: bool) -> str:
    """Return the kind of tolerance of a recorded quantity.

    Args:
        name: Key after the precision.
        rounded: Whether float64 states are stored as float32 (ImageNet family).
    """
    last = name.rpartition("/")[2]
    if last.startswith("bpd"):
        return "bpd"
    if "inverse" in name or name.startswith("sample_"):
        return "inverse"
    if last.endswith(("logd", "logp", "logp_z", "loss")):
        return "logd"
    return "rounded" if rounded and "trace/" in name else "state"


def tolerances_of(recorded: Quantities, precision: str) -> dict[str, float]:
    """Return the tolerance of each kind of quantity in a file."""
    if precision == "f64":
        return TOLERANCES["f64"]
    logs = [v for name, v in recorded.items() if kind_of(name, rounded=False) == "logd"]
    finite = [np.abs(v[np.isfinite(v)]) for v in map(np.asarray, logs)]
    largest = max((float(v.max()) for v in finite if v.size), default=0.0)
    eps = float(np.finfo(np.float32).eps)
    return TOLERANCES["f32"] | {"logd": LOG_ROUNDINGS * eps * max(1.0, largest)}


def compare(
    found: Quantities,
    recorded: Quantities,
    *,
    implementation: str,
    precision: str,
    rounded: bool = False,
    slack: Quantities | None = None,
) -> list[Row]:
    """Return a row for each recorded quantity; those of one chain element share a row.

    A recorded quantity that was not computed has error NaN, and so differs. One that is finite
    nowhere in the file, or depends on roundings of the CDF alone, is not comparable.
    """
    rows: dict[str, Row] = {}
    tolerances = tolerances_of(recorded, precision)
    for name, expected in recorded.items():
        tolerance = tolerances[kind_of(name, rounded=rounded)]
        computed = found.get(_without_element(name))
        row = Row(name, implementation, precision, np.nan, tolerance)
        if computed is not None and slack and name in slack:
            row, median = _beyond_slack(row, computed, expected, slack[name])
            if median is not None:
                rows[median.quantity] = median
        elif computed is not None:
            row = _finite_part(row, computed, expected)
        if name.startswith(("trace/", "dtrace/")):
            # Brings each quantity of an element to the tolerance of its row.
            error = row.error * tolerances["state"] / tolerance
            name = name.rpartition("/")[0]
            row = replace(row, quantity=name, error=error, tolerance=tolerances["state"])
        if name not in rows or is_worse(row, rows[name]):
            rows[name] = row
    return list(rows.values())


def is_worse(row: Row, other: Row) -> bool:
    """Return whether a row says more against an implementation than another."""
    if not (row.comparable and other.comparable):
        return row.comparable
    return not row.error <= other.error


def _finite_part(row: Row, computed: np.ndarray, expected: np.ndarray) -> Row:
    """Compare the numbers that are finite in the file."""
    finite = np.isfinite(expected)
    if not finite.any() and np.size(expected):
        return replace(row, comparable=False, note=f"none of {finite.size} numbers is finite")
    note = "" if finite.all() else f"{finite.sum()} of {finite.size} numbers finite in the file"
    return replace(row, error=difference(computed, expected), note=note)


def _beyond_slack(
    row: Row, computed: np.ndarray, expected: np.ndarray, slack: np.ndarray
) -> tuple[Row, Row | None]:
    """Compare examples whose result does not depend on the rounding of the CDF.

    An example is not comparable if one ulp of the CDF changes its result by a hundred tolerances,
    or if its recorded result is not finite. The error of a number is relative to its allowance,
    the tolerance and the effect of roundings; of many numbers, the median error has a row of its
    own, without that effect.
    """
    if np.shape(computed) != np.shape(expected):
        return row, None
    shape = (len(expected), -1)
    error = np.abs(np.asarray(computed, np.float64) - expected).reshape(shape)
    effect = np.broadcast_to(slack, np.shape(expected)).reshape(shape)
    broken = ~np.isfinite(np.asarray(computed)).reshape(shape).all(axis=1)
    usable = (effect.max(axis=1) <= MAX_SLACK * row.tolerance) | broken
    usable &= np.isfinite(expected).reshape(shape).all(axis=1)
    counted = f"{usable.sum()} of {len(usable)} examples"
    if not usable.any():
        note = f"{counted} comparable: the CDF saturates in the others"
        return replace(row, comparable=False, note=note), None
    allowed = 1.0 + effect[usable] / row.tolerance
    worst = float(np.nan_to_num(error[usable] / allowed, nan=np.inf, posinf=np.inf).max())
    row = replace(row, error=worst, note=f"CDF rounded and clipped as released; {counted}")
    if error.shape[1] == 1:
        return row, None
    median = float(np.median(np.nan_to_num(error[usable], nan=np.inf, posinf=np.inf)))
    limit = MEDIAN * row.tolerance
    return row, replace(
        row, quantity=f"{row.quantity}, median", error=median, tolerance=limit, note=counted
    )


def difference(computed: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference of numbers whose expected value is finite.

    It is NaN if a computed value is NaN there, or if the shapes differ.
    """
    computed, expected = np.asarray(computed, np.float64), np.asarray(expected)
    if computed.shape != expected.shape:
        return float("nan")
    finite = np.isfinite(expected)
    error = np.abs(computed[finite] - expected[finite])
    return float(np.max(error)) if error.size else 0.0


def _without_element(name: str) -> str:
    """Turn `trace/04_Norm/a` into `trace/04/a`: elements are identified by their number."""
    parts = name.split("/")
    if len(parts) == 3:
        parts[1] = parts[1].partition("_")[0]
    return "/".join(parts)
