"""A receipt for a number: all that it depends on, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import torch

from flowpp.data import ImageSet
from flowpp.evaluation.bound import Estimate
from flowpp.runs import environment
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runtime.hashing import weights_hash


def receipt(
    *,
    images: ImageSet,
    count: int,
    bounds: Mapping[int, Estimate],
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    batch: int,
    memory: float,
    seconds: float,
) -> dict[str, Any]:
    """Plain values.

    Args:
        images: the data set.
        count: the first so many held-out images were evaluated.
        bounds: number of importance samples to bits per dimension.
        checkpoint: whose averaged weights were used.
        dtype: computed in.
        device: computed on.
        seed: of the noise.
        batch: rows evaluated at once.
        memory: megabytes for activations, from which `batch` was chosen.
        seconds: wall time.
    """
    return {
        "date": datetime.now().isoformat(timespec="seconds"),
        "unit": "bits per dimension, an upper bound on -log2 P(x) / D",
        "importance_samples": max(bounds),
        "bounds": [_bound(samples, estimate) for samples, estimate in bounds.items()],
        "data": {
            "name": images.name,
            "sha256": images.sha256,
            "levels": images.levels,
            "shape": list(images.shape),
            "held_out_images": len(images.test),
            "evaluated": f"the first {count} held-out images",
            "count": count,
        },
        "weights": {
            "step": checkpoint.step,
            "which": "moving average" if checkpoint.ema else "raw",
            "sha256": weights_hash({**checkpoint.weights, **checkpoint.ema}),
        },
        "dtype": str(dtype).removeprefix("torch."),
        "batch": batch,
        "memory_megabytes": memory,
        "seconds": round(seconds, 1),
        "environment": environment.describe(device, seed, images),
    }


def _bound(samples: int, estimate: Estimate) -> dict[str, Any]:
    """One line of the table; null for what is no number, as JSON has no NaN and no infinity."""
    values = {"importance_samples": samples, **asdict(estimate)}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
