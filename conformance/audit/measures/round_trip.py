"""Statistics of round trips through a model, and through each of its layers alone."""

from __future__ import annotations

from typing import Any

import numpy as np


def summary(trace: dict[str, Any]) -> dict[str, Any]:
    """Return medians and maxima of the result of `Model.trace`."""
    return {
        start: {
            "total": numbers(found["total"]),
            "layers": [{"layer": name} | numbers(errors) for name, errors in found["layers"]],
        }
        for start, found in trace.items()
    }


def numbers(errors: np.ndarray) -> dict[str, float]:
    """Return statistics of |round trip - start|; a non-finite element counts as infinite."""
    errors = np.where(np.isfinite(errors), errors, np.inf)
    return {
        "median": float(np.median(errors)),
        "p99": float(np.quantile(errors, 0.99, method="higher")),
        "max": float(errors.max()),
        "non_finite_percent": 100 * float(np.mean(~np.isfinite(errors))),
    }
