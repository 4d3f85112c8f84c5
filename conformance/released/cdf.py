"""Comparison of the mixture alone, without a model: log F, log f and quantiles.

A file of this kind contains groups with `GROUP/x`, `GROUP/logits`, `GROUP/means`,
`GROUP/logscales`, and the released code's results such as `GROUP/f64/logcdf`. They are computed
from y = logit F and l = log dy/dx: log F = log sigmoid(y) and log f = l + log F + log(1 - F).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.adapters.flowpp import FlowppAdapter
from reference.bijectors import MixtureLogistic

from ..adapter import ReferenceAdapter
from .differences import Row, is_worse
from .vectors import Vectors

# Relative to max(1, |value|). The float32 vectors include their own rounding errors.
TOLERANCES = {"f64": 1e-12, "f32": 1e-5}
QUANTILE = 1e-9
"""Tolerance of F at the two quantiles: x is ill-conditioned where the density is tiny."""
IMPLEMENTATIONS: tuple[tuple[str, Any, str], ...] = (
    ("flowpp", FlowppAdapter("float32"), "f32"),
    ("flowpp", FlowppAdapter("float64"), "f64"),
    ("reference", ReferenceAdapter("float64"), "f64"),
)


def compare_cdf(vectors: Vectors) -> list[Row]:
    """Compare log F, log f and quantiles, each over all groups of the file."""
    worst: dict[tuple[str, str, str], Row] = {}
    with np.errstate(over="ignore", under="ignore"):
        for implementation, adapter, precision in IMPLEMENTATIONS:
            for row in _rows(vectors, implementation, adapter, precision):
                key = (row.quantity, implementation, precision)
                if key not in worst or is_worse(row, worst[key]):
                    worst[key] = row
    return list(worst.values())


def _rows(vectors: Vectors, implementation: str, adapter: Any, precision: str) -> Iterator[Row]:
    dtype = np.float32 if precision == "f32" else np.float64
    tolerance = TOLERANCES[precision]
    for group in groups(vectors):
        if f"{group}/{precision}/logcdf" in vectors.arrays:
            log_cdf, log_density = _logs(vectors, group, adapter, dtype)
            for name, computed in (("logcdf", log_cdf), ("logpdf", log_density)):
                recorded = vectors.arrays[f"{group}/{precision}/{name}"].astype(np.float64)
                error = np.abs(computed - recorded) / np.maximum(1, np.abs(recorded))
                finite = np.isfinite(recorded)
                worst = float(error[finite].max()) if finite.any() else np.nan
                yield Row(
                    name,
                    implementation,
                    precision,
                    worst,
                    tolerance,
                    "relative",
                    comparable=bool(finite.any()),
                )
        elif precision == "f64" and f"{group}/f64/invcdf_cifar" in vectors.arrays:
            error = _quantile_error(vectors, group, adapter)
            note = "F at the computed quantile against F at the recorded one"
            yield Row("invcdf_cifar", implementation, "f64", error, QUANTILE, note)


def groups(vectors: Vectors) -> list[str]:
    """Return the names of the groups that have parameters."""
    return [n.removesuffix("/logits") for n in vectors.arrays if n.endswith("/logits")]


def _logs(
    vectors: Vectors, group: str, adapter: Any, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    x = vectors.arrays[f"{group}/x"].astype(dtype).reshape(-1, 1, 1, 1)
    built = adapter.build(MixtureLogistic(*_parameters(vectors, group, len(x))))
    y, slope = built.forward(x)  # one scalar per example: the log-det is its log-derivative
    y, slope = y.reshape(-1).astype(np.float64), slope.astype(np.float64)
    log_cdf, log_survival = -np.logaddexp(0, -y), -np.logaddexp(0, y)
    return log_cdf, slope + log_cdf + log_survival


def _quantile_error(vectors: Vectors, group: str, adapter: Any) -> float:
    u = vectors.arrays[f"{group}/y_grid"].astype(np.float64)
    inside = (u > 1e-10) & (u < 1 - 1e-10)  # farther out the recorded CDF has lost all digits
    recorded = vectors.arrays[f"{group}/f64/invcdf_cifar"][:, inside]
    logit_u = np.log(u[inside]) - np.log1p(-u[inside])
    count = len(recorded)
    target = np.broadcast_to(logit_u, recorded.shape).reshape(count, 1, 1, -1).copy()
    built = adapter.build(MixtureLogistic(*_parameters(vectors, group, count)))
    computed, _ = built.inverse(target)
    at_computed, _ = built.forward(computed)
    at_recorded, _ = built.forward(recorded.reshape(target.shape).astype(np.float64))

    def cdf(y: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0, -y))

    return float(np.abs(cdf(at_computed) - cdf(at_recorded)).max())


def _parameters(vectors: Vectors, group: str, count: int) -> list[np.ndarray]:
    """Return logits, means and log-scales, each `(count, 1, 1, 1, K)`."""
    names = ("logits", "means", "logscales")
    arrays = (vectors.arrays[f"{group}/{name}"].astype(np.float64) for name in names)
    return [a.reshape(-1, 1, 1, 1, a.shape[-1]) * np.ones((count, 1, 1, 1, 1)) for a in arrays]
