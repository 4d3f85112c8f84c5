"""Differences, tolerances and rows of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Quantities = dict[str, np.ndarray]

# Absolute, as the released code's own float32 runs and an independent float64 computation suggest:
# z and states, log-dets and log-probabilities, bits/dim, inverses.
TOLERANCES = {
    "f64": {"state": 1e-9, "logd": 1e-8, "bpd": 1e-11, "inverse": 1e-6, "rounded": 1e-6},
    "f32": {"state": 1e-3, "logd": 1e-2, "bpd": 1e-5, "inverse": 1e-2, "rounded": 1e-3},
}


@dataclass(frozen=True)
class Row:
    """One compared quantity.

    Args:
        quantity: its name in the file.
        side: "flowpp" or "reference".
        precision: "f32" or "f64".
        error: the largest, in units of the tolerance's kind.
        tolerance: what is allowed.
        note: what was done to make the two comparable, if anything.
    """

    quantity: str
    side: str
    precision: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


def kind_of(name: str, *, rounded: bool) -> str:
    """Which tolerance a recorded quantity is held to.

    Args:
        name: the key after the precision.
        rounded: the file stores float64 states rounded to float32 (ImageNet family).
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
    side: str,
    precision: str,
    rounded: bool = False,
    slack: Quantities | None = None,
) -> list[Row]:
    """A row for each recorded quantity; those of one chain element share a row.

    A quantity that is recorded but was not computed has error NaN: it does not hold.
    """
    rows: dict[str, Row] = {}
    for name, want in recorded.items():
        tolerance = TOLERANCES[precision][kind_of(name, rounded=rounded)]
        got = found.get(_without_element(name))
        error = np.nan if got is None else difference(got, want)
        note = ""
        if slack and name in slack and got is not None:
            error, note = _beyond_slack(got, want, slack[name], tolerance)
        if name.startswith(("trace/", "dtrace/")):
            name, error = name.rpartition("/")[0], error * _scale(name, precision, rounded=rounded)
            tolerance = TOLERANCES[precision]["state"]
        row = Row(name, side, precision, error, tolerance, note)
        if name not in rows or not row.error <= rows[name].error:
            rows[name] = row
    return list(rows.values())


def _beyond_slack(
    got: np.ndarray, want: np.ndarray, slack: np.ndarray, tolerance: float
) -> tuple[float, str]:
    """Error beyond what the rounding of the CDF alone explains, over the examples it leaves.

    An example whose result one ulp of the CDF moves by a thousand tolerances proves nothing; it is
    left out and counted. NaN if that leaves none.
    """
    if np.shape(got) != np.shape(want):
        return float("nan"), ""
    over = np.maximum(np.abs(np.asarray(got, np.float64) - want) - slack, 0)
    over = over.reshape(len(over), -1).max(axis=1)
    widest = slack.reshape(len(slack), -1).max(axis=1)
    readable = widest <= 1000 * tolerance
    note = f"CDF rounded and clipped as released; {readable.sum()} of {len(readable)} examples"
    return (float(over[readable].max()) if readable.any() else float("nan")), note


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """Largest absolute difference; NaN if a value or the shapes do not match."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    if got.shape != want.shape:
        return float("nan")
    error = np.abs(got - want)
    return float(np.max(error)) if error.size else 0.0


def _scale(name: str, precision: str, *, rounded: bool) -> float:
    """Brings an element's quantities of several kinds to the one tolerance of its row."""
    own = TOLERANCES[precision][kind_of(name, rounded=rounded)]
    return TOLERANCES[precision]["state"] / own


def _without_element(name: str) -> str:
    """`trace/04_Norm/a` to `trace/04/a`: elements are found by their number."""
    parts = name.split("/")
    if len(parts) == 3:
        parts[1] = parts[1].partition("_")[0]
    return "/".join(parts)
