"""Bits per dimension as the commands print them: a model's bounds beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping

from flowpp.data import ImageSet
from flowpp.evaluation.baselines import histogram_code, uniform_code
from flowpp.evaluation.bound import Estimate


def summary(bounds: Mapping[int, Estimate], images: ImageSet) -> str:
    """Return a line for each bound and baseline.

    Args:
        bounds: Bounds by number of importance samples.
        images: Data set; the baselines are those of all its held-out images.
    """
    partial = any(bound.count < len(images.test) for bound in bounds.values())
    rows = {
        "one-sample bound" if samples == 1 else f"{samples} importance samples": str(bound)
        for samples, bound in bounds.items()
    }
    rows["independent pixels"] = f"{histogram_code(images):.4f}"
    rows["independent pixels"] += " (all held-out)" if partial else ""
    rows["uniform"] = f"{uniform_code(images):.4f}"
    return "\n".join(f"  {name:<26} {value}" for name, value in rows.items())
