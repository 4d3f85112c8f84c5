"""All comparisons with one file of vectors of a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .differences import Row, compare, difference
from .flowpp_model import (
    build,
    flowpp_implementation,
    gradients,
    initialized,
    reference_twin,
    train,
    variables_of,
    with_variables,
)
from .implementation import Implementation, forward_quantities, inverse_quantities
from .reference_model import directional_derivatives, reference_implementation
from .topology import Topology, infer_topology
from .vectors import Vectors, channels_last, complete_variables

GRADIENT = 1e-6
"""Relative to a variable's largest gradient; recorded gradients are rounded to float32 (6e-8)."""
TRAINING = 1e-8
SLOPE = 1e-6
INITIALIZATION = {"f64": 1e-9, "f32": 1e-4}
INVERSE_NAMES = ("inverse", "inverse_logd", "sample_x", "sample_inverse_logd")


def compare_model(vectors: Vectors, others: list[Vectors]) -> tuple[Topology, list[Row]]:
    """Build the file's model in flowpp and the reference, and compare every quantity.

    Args:
        vectors: Recorded vectors.
        others: Files that may contain variables missing from `vectors`.

    Raises:
        ValueError: The variables are incomplete, or do not match any topology.
    """
    variables = complete_variables(vectors, others)
    topology = infer_topology(vectors.meta, variables, vectors.images.shape[1:], vectors.levels)
    if vectors.is_initialization:
        return topology, list(_compare_initialization_file(vectors, topology, variables))
    rows = list(_compare_values(vectors, topology, variables))
    rows += _compare_gradients(vectors, topology, variables)
    return topology, rows


def _compare_values(
    vectors: Vectors, topology: Topology, variables: dict[str, np.ndarray]
) -> Iterator[Row]:
    for precision in ("f32", "f64"):
        recorded = vectors.recorded(precision)
        if not recorded:
            continue
        yield from _compare_implementation(
            flowpp_implementation(build(topology, variables), precision), vectors, topology
        )
    twin = reference_twin(build(topology, variables))
    yield from _compare_implementation(reference_implementation(twin), vectors, topology)


def _compare_implementation(
    tested: Implementation, vectors: Vectors, topology: Topology
) -> Iterator[Row]:
    recorded = vectors.recorded(tested.precision)
    forward = {k: v for k, v in recorded.items() if k not in INVERSE_NAMES}
    names = {"implementation": tested.name, "precision": tested.precision}
    found = forward_quantities(tested, vectors, topology)
    rounded = any(
        v.dtype == np.float32 and "trace/" in k and tested.precision == "f64"
        for k, v in recorded.items()
    )
    yield from compare(found, forward, rounded=rounded, **names)  # type: ignore[arg-type]
    backward = {k: v for k, v in recorded.items() if k in INVERSE_NAMES}
    if backward:
        sample_z = vectors.arrays.get("sample_z", np.zeros(0))
        inverse, slack = inverse_quantities(tested, recorded, sample_z, topology)
        yield from compare(inverse, backward, slack=slack, **names)  # type: ignore[arg-type]


def _compare_gradients(
    vectors: Vectors, topology: Topology, variables: dict[str, np.ndarray]
) -> list[Row]:
    rows = []
    recorded, norms = vectors.under("grad/"), vectors.arrays.get("grad_l2")
    images, noise = vectors.images, vectors.noise.astype(np.float64)
    model = build(topology, variables)
    found = gradients(model, images, noise, variables)
    if recorded:
        worst = max(relative(found[name], value) for name, value in recorded.items())
        rows.append(Row(f"grad/ ({len(recorded)} variables)", "flowpp", "f64", worst, GRADIENT))
    if norms is not None:
        names = vectors.meta["variables"]
        error = relative(np.array([np.linalg.norm(found[n].ravel()) for n in names]), norms)
        rows.append(Row("grad_l2", "flowpp", "f64", error, GRADIENT))
    if recorded:
        slopes, expected = directional_derivatives(
            lambda moved: with_variables(model, moved), variables, recorded, images, noise
        )
        note = "slope of the loss along 3 random directions"
        error = difference(slopes, expected)
        rows.append(Row("grad/ along directions", "reference", "f64", error, SLOPE, note))
    steps = vectors.under("train/")
    if steps:
        model = build(topology, variables)
        trained = train(model, images, noise, steps["lr"], variables)
        for name in ("loss", "grad_norm"):
            error = relative(trained[name], steps[name])
            rows.append(Row(f"train/{name}", "flowpp", "f64", error, TRAINING, "relative"))
        after = {k: v for k, v in steps.items() if k.startswith("w_after/")}
        worst = max((difference(trained[k], v) for k, v in after.items()), default=0.0)
        rows.append(Row(f"train/w_after ({len(after)})", "flowpp", "f64", worst, TRAINING))
    return rows


def _compare_initialization_file(
    vectors: Vectors, topology: Topology, variables: dict[str, np.ndarray]
) -> Iterator[Row]:
    images = vectors.images
    for precision in ("f32", "f64"):
        recorded = vectors.recorded(precision)
        if recorded:
            noise = vectors.noise.astype(np.float32 if precision == "f32" else np.float64)
            model = build(topology, variables)
            loss, z = initialized(model, images, noise, precision)
            after = variables_of(model, variables)
            yield from _compare_initialization(
                "flowpp", precision, loss, z, after, vectors, variables
            )
    twin = reference_twin(build(topology, variables))
    noise = vectors.noise.astype(np.float64)
    fitted, z = twin.initialize(images, noise)
    after = variables_of(fitted, variables)
    loss = -float(np.mean(fitted.elbo(images, noise).total))
    yield from _compare_initialization("reference", "f64", loss, z, after, vectors, variables)


def _compare_initialization(
    implementation: str,
    precision: str,
    loss: float,
    z: np.ndarray,
    after: dict[str, np.ndarray],
    vectors: Vectors,
    before: dict[str, np.ndarray],
) -> Iterator[Row]:
    recorded, tolerance = vectors.recorded(precision), INITIALIZATION[precision]

    def row(name: str, error: float, note: str = "relative") -> Row:
        return Row(name, implementation, precision, error, tolerance, note)

    yield row("init_loss", relative(np.array(loss), recorded["init_loss"]))
    yield row("init_z", relative(channels_last(z), recorded["init_z"]))
    changed = vectors.under("w_after_f64/")
    scales = vectors.under("kernel_scale_f64/")
    if changed:
        worst = max(relative(after[name], value, 1.0) for name, value in changed.items())
        yield row(f"w_after ({len(changed)})", worst)
    if scales:
        worst = max(relative(after[n], before[n] * scale) for n, scale in scales.items())
        yield row(f"kernel_scale ({len(scales)})", worst)
    same = set(before) - set(changed) - set(scales)
    worst = max((difference(after[name], before[name]) for name in same), default=0.0)
    yield row(f"unchanged ({len(same)})", worst, "absolute")


def relative(computed: np.ndarray, value: np.ndarray, floor: float = 1e-12) -> float:
    """Return the largest difference divided by the largest expected value (at least `floor`)."""
    largest = float(np.max(np.abs(value))) if np.size(value) else 0.0
    return difference(computed, value) / max(largest, floor)
