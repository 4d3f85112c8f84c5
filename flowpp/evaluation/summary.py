"""Bits per dimension as the commands print them: a model's bounds beside the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flowpp.data import ImageSet
from flowpp.data.image_set import LABELS, Part
from flowpp.evaluation.baselines import histogram_code, uniform_code
from flowpp.evaluation.bound import Estimate

FEW = 20
"""Number of images below which an interval is printed: the standard error alone is uncertain."""


def title(images: ImageSet, count: int, part: Part = "test") -> str:
    """Return a heading: what is computed, of which images and how many."""
    label = "held-out" if part == "test" and images.valid is None else LABELS[part]
    return f"{label} bits/dim on {images.name}, {count} images"


def summary(
    bounds: Mapping[int, Estimate],
    images: ImageSet,
    valid: Estimate | None = None,
    *,
    part: Part = "test",
    independent: bool = True,
    classes: Mapping[str, Estimate] | None = None,
    without_label: Estimate | None = None,
) -> str:
    """Return a line for each bound and baseline; below a bound of few images its interval.

    The bounds of a model's classes follow, the tightest ones.

    Args:
        bounds: Bounds by number of importance samples.
        images: Data set; the baselines are those of all images of the part.
        valid: One-sample bound on the validation images, if there are any.
        part: Images behind the bounds.
        independent: Whether to include independent pixels, fitted to the training images.
        classes: Bounds by class of a model of labelled images.
        without_label: One-sample bound with label "none".
    """
    rows = []
    for samples, bound in bounds.items():
        name = "one-sample bound" if samples == 1 else f"{samples} importance samples"
        rows += [(name, str(bound)), *_interval(bound)]
    if valid is not None:
        rows += [("validation images", f"{valid} ({valid.count} images)"), *_interval(valid)]
    if independent:
        partial = any(bound.count < len(images.part(part)) for bound in bounds.values())
        rows.append(("independent pixels", _independent(images, part, partial=partial)))
    rows.append(("uniform", f"{uniform_code(images):.4f}"))
    if without_label is not None:
        rows.append(("with label none", str(without_label)))
    for name, bound in (classes or {}).items():
        number = "1 image" if bound.count == 1 else f"{bound.count} images"
        rows.append((f"  label {name}", f"{bound} ({number})"))
    return "\n".join(f"  {name:<26} {value}" for name, value in rows)


def _interval(bound: Estimate) -> Iterator[tuple[str, str]]:
    if 2 <= bound.count < FEW and bound.is_finite:
        low, high = bound.interval()
        text = f"{max(0.0, low):.4f} ... {high:.4f} (Student's t, {bound.count} images)"
        yield "  its 95 % interval", text


def _independent(images: ImageSet, part: Part, *, partial: bool) -> str:
    code = histogram_code(images, part)
    text = f"{code:.4f}"
    if partial:
        text += f" (all {'held-out' if part == 'test' else LABELS[part]})"
    if code > uniform_code(images):
        text += f", above uniform: {LABELS[part]} values differ from training values"
    return text
