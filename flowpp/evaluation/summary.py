"""Bits per dimension as the commands print them: a model's bounds beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping

from flowpp.data import ImageSet
from flowpp.evaluation.baselines import histogram_code, uniform_code
from flowpp.evaluation.bound import Estimate

FEW = 20
"""Number of images below which an interval is printed: the standard error alone is uncertain."""


def held_out_title(images: ImageSet, count: int) -> str:
    """Return a heading: what is computed, of which images and how many."""
    part = "held-out" if images.valid is None else "test"
    return f"{part} bits/dim on {images.name}, {count} images"


def summary(
    bounds: Mapping[int, Estimate],
    images: ImageSet,
    valid: Estimate | None = None,
    *,
    independent: bool = True,
) -> str:
    """Return a line for each bound and baseline.

    Args:
        bounds: Bounds by number of importance samples.
        images: Data set; the baselines are those of all its test images.
        valid: One-sample bound on the validation images, if there are any.
        independent: Whether to include independent pixels, fitted to the training images.
    """
    few = next((b for b in bounds.values() if 2 <= b.count < FEW), None)
    partial = any(bound.count < len(images.test) for bound in bounds.values())
    rows = {
        "one-sample bound" if samples == 1 else f"{samples} importance samples": str(bound)
        for samples, bound in bounds.items()
    }
    if valid is not None:
        rows["validation images"] = f"{valid} ({valid.count} images)"
    if few is not None:
        low, high = few.interval()
        rows["95 % interval"] = (
            f"{max(0.0, low):.4f} ... {high:.4f} (Student's t, {few.count} images)"
        )
    if independent:
        code = histogram_code(images)
        rows["independent pixels"] = f"{code:.4f}"
        rows["independent pixels"] += " (all held-out)" if partial else ""
        if code > uniform_code(images):
            rows["independent pixels"] += (
                ", above uniform: test values differ from training values"
            )
    rows["uniform"] = f"{uniform_code(images):.4f}"
    return "\n".join(f"  {name:<26} {value}" for name, value in rows.items())
