"""Receipt of an evaluation: its results and everything they depend on, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

import torch

from flowpp.config.context_spec import ContextSpec
from flowpp.config.settings import Precision
from flowpp.data import ImageSet
from flowpp.data.image_set import Part
from flowpp.evaluation.bound import Estimate, not_finite
from flowpp.evaluation.per_class import as_record
from flowpp.runs import environment
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runtime.files import finite_or_null
from flowpp.runtime.hashing import weights_hash
from flowpp.runtime.precision import precision_name

_EVALUATED = {
    "train": "training images",
    "valid": "validation images",
    "test": "held-out images",
    "other": "images of other data than the run's",
}


def receipt(
    *,
    images: ImageSet,
    count: int,
    bounds: Mapping[int, Estimate],
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    precision: Precision,
    device: torch.device,
    seed: int,
    batch: int,
    memory: float | None,
    seconds: float,
    augmentation: str | None = None,
    part: Part | Literal["other"] = "test",
    context: ContextSpec | None = None,
    label: str | None = None,
    classes: Mapping[str, Estimate] | None = None,
) -> dict[str, Any]:
    """Return the receipt as plain values; NaN and infinity become null.

    Args:
        images: the data set.
        count: number of images evaluated, from the first.
        bounds: bits per dimension by number of importance samples; `failure` says which are null.
        checkpoint: the checkpoint whose averaged weights were used.
        dtype: floating-point type of the computation.
        precision: what float32 was computed in.
        device: device of the computation.
        seed: seed of the noise.
        batch: number of rows evaluated at once.
        memory: megabytes for activations, from which `batch` was chosen; None if it was given.
        seconds: wall time.
        augmentation: how training images were changed at random, if they were.
        part: which images of the data set; "other" if they are all of other data than the run's.
        context: what the model is conditioned on.
        label: label of all images, if it was not their own.
        classes: the bound of most samples by class.
    """
    conditional: dict[str, Any] = {}
    if context is not None:
        conditional["context"] = {**context.to_dict(), "label": label}
    if classes is not None:
        conditional["per_class"] = as_record(classes)
    return {
        "date": datetime.now().isoformat(timespec="seconds"),
        "unit": "bits per dimension, an upper bound on -log2 P(x) / D",
        "importance_samples": max(bounds),
        "bounds": [
            finite_or_null({"importance_samples": samples, **asdict(estimate)})
            for samples, estimate in bounds.items()
        ],
        "failure": not_finite(bounds),
        **conditional,
        "data": {
            "name": images.name,
            "sha256": images.sha256,
            "levels": images.levels,
            "shape": list(images.shape),
            "held_out_images": len(images.test),
            "part": part,
            "evaluated": f"the first {count} {_EVALUATED[part]}",
            "count": count,
        },
        "weights": {
            "step": checkpoint.step,
            "augmentation": augmentation,
            "which": _which(checkpoint),
            "sha256": weights_hash(checkpoint.selected_weights(average=True)),
        },
        "dtype": str(dtype).removeprefix("torch."),
        "precision": precision_name(precision, dtype, device),
        "batch": batch,
        "memory_megabytes": memory,
        "seconds": round(seconds, 1),
        "environment": environment.describe(device, seed, images, precision),
    }


def _which(checkpoint: Checkpoint) -> str:
    """Return how the weights were made; files of weights alone may say so."""
    recorded = checkpoint.facts.get("weights")
    if isinstance(recorded, str):
        return recorded
    return "moving average" if checkpoint.ema else "raw"
