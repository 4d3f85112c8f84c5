"""Comparison at the level of the mixture's CDF: log F, log f and quantiles, without any model.

A file of this kind holds groups: `GROUP/x`, `GROUP/logits`, `GROUP/means`, `GROUP/logscales`, and
what the released code made of them, `GROUP/f64/logcdf` and so on. From our y = logit F and l = log
dy/dx follow log F = log sigmoid(y) and log f = l + log F + log(1 - F).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.adapters.flowpp import FlowppAdapter
from reference.bijectors import MixtureLogistic

from ..adapter import ReferenceAdapter
from .compare import Row
from .vectors import Vectors

# Relative to max(1, |value|). The float32 vectors carry their own rounding.
TOLERANCES = {"f64": 1e-12, "f32": 1e-5}
QUANTILE = 1e-9
"""In F at the two quantiles: x itself is ill-conditioned where the density is tiny."""
SIDES: tuple[tuple[str, Any, str], ...] = (
    ("flowpp", FlowppAdapter("float32"), "f32"),
    ("flowpp", FlowppAdapter("float64"), "f64"),
    ("reference", ReferenceAdapter("float64"), "f64"),
)


def prove_cdf(vectors: Vectors) -> list[Row]:
    """Rows for log F, log f and quantiles, over all groups of the file."""
    worst: dict[tuple[str, str, str], Row] = {}
    with np.errstate(over="ignore", under="ignore"):
        for side, adapter, precision in SIDES:
            for row in _rows(vectors, side, adapter, precision):
                key = (row.quantity, side, precision)
                if key not in worst or not row.error <= worst[key].error:
                    worst[key] = row
    return list(worst.values())


def _rows(vectors: Vectors, side: str, adapter: Any, precision: str) -> Iterator[Row]:
    dtype = np.float32 if precision == "f32" else np.float64
    tolerance = TOLERANCES[precision]
    for group in groups(vectors):
        if f"{group}/{precision}/logcdf" in vectors.arrays:
            log_cdf, log_density = _logs(vectors, group, adapter, dtype)
            for name, got in (("logcdf", log_cdf), ("logpdf", log_density)):
                want = vectors.arrays[f"{group}/{precision}/{name}"].astype(np.float64)
                error = np.abs(got - want) / np.maximum(1, np.abs(want))
                yield Row(name, side, precision, float(error.max()), tolerance, "relative")
        elif precision == "f64" and f"{group}/f64/invcdf_cifar" in vectors.arrays:
            error = _quantile_error(vectors, group, adapter)
            note = "F at our quantile against F at the recorded one"
            yield Row("invcdf_cifar", side, "f64", error, QUANTILE, note)


def groups(vectors: Vectors) -> list[str]:
    """Names of the groups that have parameters."""
    return [n.removesuffix("/logits") for n in vectors.arrays if n.endswith("/logits")]


def _logs(
    vectors: Vectors, group: str, adapter: Any, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    x = vectors.arrays[f"{group}/x"].astype(dtype).reshape(-1, 1, 1, 1)
    built = adapter.build(MixtureLogistic(*_parameters(vectors, group, len(x))))
    y, slope = built.forward(x)  # one scalar an example: the log-det is its log-derivative
    y, slope = y.reshape(-1).astype(np.float64), slope.astype(np.float64)
    log_cdf, log_survival = -np.logaddexp(0, -y), -np.logaddexp(0, y)
    return log_cdf, slope + log_cdf + log_survival


def _quantile_error(vectors: Vectors, group: str, adapter: Any) -> float:
    u = vectors.arrays[f"{group}/y_grid"].astype(np.float64)
    inside = (u > 1e-10) & (u < 1 - 1e-10)  # further out the recorded CDF has no digits left
    theirs = vectors.arrays[f"{group}/f64/invcdf_cifar"][:, inside]
    goal = np.log(u[inside]) - np.log1p(-u[inside])
    count = len(theirs)
    target = np.broadcast_to(goal, theirs.shape).reshape(count, 1, 1, -1).copy()
    built = adapter.build(MixtureLogistic(*_parameters(vectors, group, count)))
    ours, _ = built.inverse(target)
    at_ours, _ = built.forward(ours)
    at_theirs, _ = built.forward(theirs.reshape(target.shape).astype(np.float64))

    def cdf(y: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0, -y))

    return float(np.abs(cdf(at_ours) - cdf(at_theirs)).max())


def _parameters(vectors: Vectors, group: str, count: int) -> list[np.ndarray]:
    """Logits, means and log-scales of shape `(count, 1, 1, 1, K)`."""
    names = ("logits", "means", "logscales")
    arrays = (vectors.arrays[f"{group}/{name}"].astype(np.float64) for name in names)
    return [a.reshape(-1, 1, 1, 1, a.shape[-1]) * np.ones((count, 1, 1, 1, 1)) for a in arrays]
