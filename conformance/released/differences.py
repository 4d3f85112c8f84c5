"""Differences, their tolerances, and the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Quantities = dict[str, np.ndarray]

# Absolute, derived from the released code's own float32 runs and an independent float64
# computation: z and states, log-dets and log-probabilities, bits/dim, inverses.
TOLERANCES = {
    "f64": {"state": 1e-9, "logd": 1e-8, "bpd": 1e-11, "inverse": 1e-6, "rounded": 1e-6},
    "f32": {"state": 1e-3, "logd": 1e-2, "bpd": 1e-5, "inverse": 1e-2, "rounded": 1e-3},
}


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
    """

    quantity: str
    implementation: str
    precision: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; False for NaN."""
        return bool(self.error <= self.tolerance)


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

    A recorded quantity that was not computed has error NaN, and so does not hold.
    """
    rows: dict[str, Row] = {}
    for name, expected in recorded.items():
        tolerance = TOLERANCES[precision][kind_of(name, rounded=rounded)]
        computed = found.get(_without_element(name))
        error = np.nan if computed is None else difference(computed, expected)
        note = ""
        if slack and name in slack and computed is not None:
            error, note = _beyond_slack(computed, expected, slack[name], tolerance)
        if name.startswith(("trace/", "dtrace/")):
            name, error = name.rpartition("/")[0], error * _scale(name, precision, rounded=rounded)
            tolerance = TOLERANCES[precision]["state"]
        row = Row(name, implementation, precision, error, tolerance, note)
        if name not in rows or not row.error <= rows[name].error:
            rows[name] = row
    return list(rows.values())


def _beyond_slack(
    computed: np.ndarray, expected: np.ndarray, slack: np.ndarray, tolerance: float
) -> tuple[float, str]:
    """Return the error beyond the effect of rounding the CDF, over all usable examples.

    An example is not usable if one ulp of the CDF changes its result by a thousand tolerances; the
    note counts the usable ones. The error is NaN if there are none.
    """
    if np.shape(computed) != np.shape(expected):
        return float("nan"), ""
    over = np.maximum(np.abs(np.asarray(computed, np.float64) - expected) - slack, 0)
    over = over.reshape(len(over), -1).max(axis=1)
    widest = slack.reshape(len(slack), -1).max(axis=1)
    usable = widest <= 1000 * tolerance
    note = f"CDF rounded and clipped as released; {usable.sum()} of {len(usable)} examples"
    return (float(over[usable].max()) if usable.any() else float("nan")), note


def difference(computed: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference; NaN if a value is NaN or the shapes differ."""
    computed, expected = np.asarray(computed, np.float64), np.asarray(expected)
    if computed.shape != expected.shape:
        return float("nan")
    error = np.abs(computed - expected)
    return float(np.max(error)) if error.size else 0.0


def _scale(name: str, precision: str, *, rounded: bool) -> float:
    """Return the factor that brings a quantity of an element to the tolerance of its row."""
    own = TOLERANCES[precision][kind_of(name, rounded=rounded)]
    return TOLERANCES[precision]["state"] / own


def _without_element(name: str) -> str:
    """Turn `trace/04_Norm/a` into `trace/04/a`: elements are identified by their number."""
    parts = name.split("/")
    if len(parts) == 3:
        parts[1] = parts[1].partition("_")[0]
    return "/".join(parts)
