"""The laws that gradients equal finite differences of the reference.

The loss is `sum(w * output) + sum(v * log_det)` with random w and v, so that the gradient of the
log-det counts as much as that of the output: training needs it, and incomplete implementations of
the inverse's gradient lack it. For x every entry is compared; for array fields, derivatives along
random directions, to which every entry contributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.laws.guard import real_array, require_shape
from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Unresolved, compare
from conformance.numerics.jacobian import derivative, inverse_or_inf
from conformance.numerics.specs import float_arrays, map_arrays, round_to

RESOLVED = 1e-8
"""Largest uncertainty of the differences, relative to the summed terms, in float64."""
ROUNDINGS = 8
"""The same in roundings of the dtype, for coarser dtypes."""
ENTRIES = "differences do not resolve this entry of the gradient for the input"
DIRECTIONS = "differences do not resolve the gradient along this direction of the fields"
INFINITE = "the weights of the fields' gradient overflow where the map is flat"
CONSTANT = "the fields are constants, for which the reference accepts no other value"
MAX_DIRECTIONS = 4
"""The fields of an object with more than these are changed together, in `GROUPS` groups."""
GROUPS = 2
SMALL_STEP = 2.0**-17


@dataclass(frozen=True)
class ExpectedGradient:
    """The true gradient, in terms of the reference's forward map at a point x.

    For any change of the map at x it is `sign * (w^T dy + v dlog_det)`.

    Attributes:
        x: The point.
        w: Weights of y, `(B, D)`.
        v: Weights of log_det, `(B,)`.
        sign: 1 for forward, -1 for inverse.
        for_input: Gradient for the input.
        size: Sum of the absolute terms of `for_input`.
        uncertainty: Uncertainty of `for_input` from the finite differences.
        uncertainty_of_w: Uncertainty of w from the finite differences.
    """

    x: np.ndarray
    w: np.ndarray
    v: np.ndarray
    sign: float
    for_input: np.ndarray
    size: np.ndarray
    uncertainty: np.ndarray
    uncertainty_of_w: np.ndarray


def gradients(trial: Trial) -> Findings:
    """Gradients of forward, for x, context and every array field."""
    w, v = _weights(trial, trial.want_forward[0])
    got = gradient(trial, "vjp", trial.x, w, v)
    flat, at = w.reshape(len(w), -1), trial.reference_jacobian_at_x
    expected = ExpectedGradient(
        x=trial.x,
        w=flat,
        v=v,
        sign=1.0,
        for_input=vector_matrix(flat, at.matrix) + v[:, None] * at.log_det_gradient,
        size=vector_matrix(abs(flat), abs(at.matrix)) + abs(v[:, None] * at.log_det_gradient),
        uncertainty=vector_matrix(abs(flat), at.error)
        + abs(v)[:, None] * at.log_det_gradient_error,
        uncertainty_of_w=np.zeros_like(flat),
    )
    yield from compare_gradient(trial, got, expected)


def inverse_gradients(trial: Trial) -> Findings:
    """Gradients of inverse, for y, context and every array field.

    With y = f(x; t) fixed, dx = -A df and the inverse's log_det is -l(x; t), so the gradient is
    minus that of forward at the solution x, with weights r = (w - v dl/dx) A in the place of w;
    and r itself is the gradient for y. No difference through a root finder is needed.
    """
    w, v = _weights(trial, trial.want_inverse[0])
    got = gradient(trial, "vjp_inverse", trial.y, w, v)
    at = trial.reference_jacobian_at_inverse
    inverse = inverse_or_inf(at.matrix)
    along_x = w.reshape(len(w), -1) - v[:, None] * at.log_det_gradient
    along_x_size = abs(w.reshape(len(w), -1)) + abs(v[:, None] * at.log_det_gradient)
    with np.errstate(invalid="ignore", over="ignore"):  # flat places, which are left out below
        r = vector_matrix(along_x, inverse)
        size = vector_matrix(along_x_size, abs(inverse))
        uncertainty = vector_matrix(vector_matrix(size, at.error), abs(inverse))
        uncertainty += vector_matrix(abs(v)[:, None] * at.log_det_gradient_error, abs(inverse))
    expected = ExpectedGradient(
        x=trial.want_inverse[0],
        w=r,
        v=v,
        sign=-1.0,
        for_input=r,
        size=size,
        uncertainty=uncertainty,
        uncertainty_of_w=uncertainty,
    )
    yield from compare_gradient(trial, got, expected)


def gradient(
    trial: Trial, method: str, at: np.ndarray, w: np.ndarray, v: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the implementation's gradients for the input, the context and every array field.

    Raises:
        NotSupported: It has no such method.
        Violation: A gradient is missing, or has another shape than its array.
    """
    arguments = at, trial.context, w, v
    result = trial.optional(method)(*(trial.cast(array) for array in arguments))
    return checked_gradients(result, method, {"x": at, **_with_gradients(trial)})


def checked_gradients(
    result: Any, method: str, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the gradients that a method has returned, by name of their arrays.

    Raises:
        Violation: A gradient is missing, or has another shape than its array.
    """
    if not isinstance(result, dict):
        raise Violation(f"{method} returned {type(result).__name__}, not a dictionary of arrays")
    got = {name: real_array(array, f"gradient for {name}") for name, array in result.items()}
    missing = sorted(set(arrays) - set(got))
    if missing:
        raise Violation(f"no gradient for {', '.join(missing)}")
    for name, array in arrays.items():
        require_shape(got[name], array.shape, f"the gradient for {name}")
    return got


def _with_gradients(trial: Trial) -> dict[str, np.ndarray]:
    """Return the context and the array fields, by name."""
    context = {} if trial.context is None else {"context": trial.context}
    return float_arrays(trial.spec) | context


def compare_gradient(
    trial: Trial,
    got: dict[str, np.ndarray],
    expected: ExpectedGradient,
    *,
    directions: int = MAX_DIRECTIONS,
) -> Findings:
    """Compare the gradient for the input by entry, and those for fields along directions."""
    for name, found in got.items():
        if not np.isfinite(found).all():
            raise Violation(f"the gradient for {name} is not finite")
    resolved = expected.uncertainty <= resolution(trial) * np.maximum(1.0, expected.size)
    if not resolved.all():
        yield "x", Unresolved(int((~resolved).sum()), ENTRIES)
    if resolved.any():
        yield (
            "x",
            compare(
                got["x"].reshape(resolved.shape)[resolved],
                expected.for_input[resolved],
                trial.dtype,
                unit=trial.eps * np.maximum(1.0, expected.size[resolved]),
            ),
        )
    arrays = _with_gradients(trial)
    rng = trial.rng("directions")
    groups = _groups(list(arrays), directions, rng)
    if not (np.isfinite(expected.w).all() and np.isfinite(expected.uncertainty_of_w).all()):
        yield "fields", Unresolved(len(groups), INFINITE)
        return
    for paths in groups:
        steps = {path: rng.standard_normal(arrays[path].shape) for path in paths}
        norm = np.sqrt(sum((step**2).sum() for step in steps.values()))
        steps = {path: step / norm for path, step in steps.items()}
        yield from _along(trial, got, expected, steps)


def _along(
    trial: Trial,
    got: dict[str, np.ndarray],
    expected: ExpectedGradient,
    steps: dict[str, np.ndarray],
) -> Findings:
    """Compare the derivative along one direction of some fields together."""

    def terms(t: float, w: np.ndarray) -> np.ndarray:
        spec = map_arrays(trial.spec, lambda path, a: a + t * steps[path] if path in steps else a)
        context = trial.context
        if context is not None and "context" in steps:
            context = context + t * steps["context"]
        with np.errstate(all="ignore"):
            y, log_det = spec.forward(expected.x, context)
        return expected.sign * np.append(w * y.reshape(len(y), -1), expected.v * log_det)

    try:
        size = abs(terms(1e-3, expected.w)).sum()
    except ValueError:  # the reference accepts no other value
        yield ", ".join(steps), Unresolved(1, CONSTANT)
        return
    noise = float(np.finfo(np.float64).eps * size)
    want, uncertainty = derivative(lambda t: float(terms(t, expected.w).sum()), noise=noise)
    # Extrapolation misses a small component that is narrower than its steps; a step that is
    # smaller still does not.
    rise = terms(SMALL_STEP, expected.w).sum() - terms(-SMALL_STEP, expected.w).sum()
    missed = abs(float(rise) / (2 * SMALL_STEP) - want) - 8 * noise / SMALL_STEP
    uncertainty = max(uncertainty, missed)
    if expected.uncertainty_of_w.any():
        change = (
            abs(terms(1e-3, expected.uncertainty_of_w) - terms(-1e-3, expected.uncertainty_of_w))
            / 2e-3
        )
        uncertainty += float(change.sum())
    products = np.concatenate([np.ravel(got[path] * step) for path, step in steps.items()])
    unit = max(1.0, float(abs(products).sum()))
    label = ", ".join(list(steps)[:3])
    if not uncertainty <= resolution(trial) * unit:
        yield label, Unresolved(1, DIRECTIONS)
        return
    yield (
        label,
        compare(
            np.array([products.sum(dtype=np.float64)]),
            np.array([want]),
            trial.dtype,
            unit=np.array([trial.eps * unit]),
        ),
    )


def resolution(trial: Trial) -> float:
    """Return the largest uncertainty of a gradient, relative to its terms, for a comparison."""
    return max(RESOLVED, ROUNDINGS * trial.eps)


def _weights(trial: Trial, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = trial.rng("weights")
    w, v = (rng.standard_normal(shape) for shape in (output.shape, output.shape[:1]))
    return round_to(w, trial.dtype), round_to(v, trial.dtype)


def vector_matrix(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return vector times matrix, for each example."""
    return np.einsum("bi,bij->bj", vector, matrix)


def _groups(paths: list[str], most: int, rng: np.random.Generator) -> list[list[str]]:
    if len(paths) <= most:
        return [[path] for path in paths]
    shuffled = [paths[i] for i in rng.permutation(len(paths))]
    count = min(GROUPS, most)
    return [shuffled[i::count] for i in range(count)]
