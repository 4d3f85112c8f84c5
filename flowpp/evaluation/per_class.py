"""Bits per dimension of each class of a model conditioned on labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from flowpp.config.context_spec import ContextSpec
from flowpp.evaluation import importance
from flowpp.evaluation.bound import Estimate
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.files import finite_or_null


def importance_bounds(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int,
    *,
    contexts: np.ndarray | None = None,
    **options: Any,
) -> tuple[dict[int, Estimate], dict[str, Estimate] | None]:
    """Return the bounds of `importance.importance_bounds`, and that of most samples by class.

    The second is None unless the model is conditioned on labels and has more than one here.
    """
    nats = importance.importance_log_probs(model, images, samples, contexts=contexts, **options)
    dims, spec = images[0].size, model.context_spec
    bounds = {n: Estimate.of(bits_per_dim(torch.from_numpy(row), dims)) for n, row in nats.items()}
    if spec is None or spec.kind != "labels" or contexts is None or len({*contexts.tolist()}) < 2:
        return bounds, None
    return bounds, per_class(nats[samples], contexts, spec, dims)


def per_class(
    nats: np.ndarray, labels: np.ndarray, spec: ContextSpec, dims: int
) -> dict[str, Estimate]:
    """Return bits per dimension by name of the class, for the classes that have images.

    Args:
        nats: Bound on log P(x) of each image, (N,).
        labels: Its label, (N,); images of label "none" are left out.
        spec: Names of the classes.
        dims: Number of values of an image.
    """
    bits = bits_per_dim(torch.from_numpy(nats), dims)
    chosen = {name: labels == label for label, name in enumerate(spec.names)}
    return {
        name: Estimate.of(bits[torch.from_numpy(rows)])
        for name, rows in chosen.items()
        if rows.any()
    }


def as_record(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    """Return plain values for JSON: NaN and infinity become null."""
    return {
        name: finite_or_null(
            {
                "bits_per_dim": estimate.mean,
                "standard_error": estimate.standard_error,
                "count": estimate.count,
            }
        )
        for name, estimate in estimates.items()
    }


def from_record(record: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    """Return the estimates that `as_record` wrote; NaN where it wrote null."""

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return {
        name: Estimate(number(row["bits_per_dim"]), number(row["standard_error"]), row["count"])
        for name, row in record.items()
    }
