"""Gradients against finite differences of the reference.

The loss is `sum(w * output) + sum(v * log_det)` with random w and v, so the gradient of the
log-det, which training needs and which a shortcut through the inverse loses first, counts as much
as that of the output. For x every entry is compared; for array fields, derivatives along random
directions, which every entry enters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison, Unresolved, compare
from conformance.numerics.jacobian import derivative, inverse_or_inf
from conformance.numerics.specs import float_arrays, map_arrays, round_to

RESOLVED = 1e-8
ROUNDINGS = 8
"""Differences need not know more of a gradient than so many roundings of the dtype."""
ENTRIES = "differences do not resolve this entry of the gradient for the input"
DIRECTIONS = "differences do not resolve the gradient along this direction of the fields"
INFINITE = "the weights of the fields' gradient overflow where the map is flat"
CONSTANT = "the fields are constants, which the reference allows no other value"
MOST_DIRECTIONS = 4
"""Objects with more fields than that have them moved together, in `FEW` groups."""
FEW = 2
SMALL = 2.0**-17


@dataclass(frozen=True)
class ExpectedGradient:
    """The true gradient, in terms of the reference's forward map at a point x.

    It is `sign * (w^T dy + v dlog_det)` for any change of the map at x. `doubt_of_w` is what
    finite differences leave open about w. `by_input` is the gradient for the input itself, with
    its size (of the terms it is summed from) and doubt.
    """

    x: np.ndarray
    w: np.ndarray
    v: np.ndarray
    sign: float
    by_input: np.ndarray
    size: np.ndarray
    doubt: np.ndarray
    doubt_of_w: np.ndarray


def gradients(trial: Trial) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """Gradients of forward, for x, context and every array field."""
    vjp = trial.optional("vjp")
    w, v = _weights(trial, trial.want_forward[0])
    got = vjp(trial.cast(trial.x), trial.cast(trial.context), trial.cast(w), trial.cast(v))
    flat, at = w.reshape(len(w), -1), trial.at_x
    wanted = ExpectedGradient(
        x=trial.x,
        w=flat,
        v=v,
        sign=1.0,
        by_input=times(flat, at.matrix) + v[:, None] * at.log_det_gradient,
        size=times(abs(flat), abs(at.matrix)) + abs(v[:, None] * at.log_det_gradient),
        doubt=times(abs(flat), at.error) + abs(v)[:, None] * at.log_det_gradient_error,
        doubt_of_w=np.zeros_like(flat),
    )
    yield from against(trial, got, wanted)


def inverse_gradients(trial: Trial) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """Gradients of inverse, for y, context and every array field.

    With y = f(x; t) fixed, dx = -A df and the inverse's log_det is -l(x; t), so the gradient is
    minus that of forward at the solution x, with weights r = (w - v dl/dx) A in the place of w;
    and r itself is the gradient for y. No difference through a root finder is needed.
    """
    vjp = trial.optional("vjp_inverse")
    w, v = _weights(trial, trial.want_inverse[0])
    got = vjp(trial.cast(trial.y), trial.cast(trial.context), trial.cast(w), trial.cast(v))
    at = trial.at_inverse
    inverse = inverse_or_inf(at.matrix)
    along_x = w.reshape(len(w), -1) - v[:, None] * at.log_det_gradient
    along_x_size = abs(w.reshape(len(w), -1)) + abs(v[:, None] * at.log_det_gradient)
    with np.errstate(invalid="ignore", over="ignore"):  # flat places, which are left out below
        r = times(along_x, inverse)
        size = times(along_x_size, abs(inverse))
        doubt = times(times(size, at.error), abs(inverse))
        doubt += times(abs(v)[:, None] * at.log_det_gradient_error, abs(inverse))
    wanted = ExpectedGradient(
        x=trial.want_inverse[0],
        w=r,
        v=v,
        sign=-1.0,
        by_input=r,
        size=size,
        doubt=doubt,
        doubt_of_w=doubt,
    )
    yield from against(trial, got, wanted)


def against(
    trial: Trial,
    got: dict[str, np.ndarray],
    wanted: ExpectedGradient,
    *,
    directions: int = MOST_DIRECTIONS,
) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """Compare the gradient for the input entry by entry, those for fields along directions."""
    for name, gradient in got.items():
        if not np.isfinite(gradient).all():
            raise Violation(f"the gradient for {name} is not finite")
    resolved = wanted.doubt <= resolution(trial) * np.maximum(1.0, wanted.size)
    if not resolved.all():
        yield "x", Unresolved(int((~resolved).sum()), ENTRIES)
    if resolved.any():
        yield (
            "x",
            compare(
                got["x"].reshape(resolved.shape)[resolved],
                wanted.by_input[resolved],
                trial.dtype,
                unit=trial.eps * np.maximum(1.0, wanted.size[resolved]),
            ),
        )
    arrays = float_arrays(trial.spec)
    if trial.context is not None:
        arrays["context"] = trial.context
    missing = sorted(set(arrays) - set(got))
    if missing:
        raise Violation(f"no gradient for {', '.join(missing)}")
    rng = trial.rng("directions")
    groups = _groups(list(arrays), directions, rng)
    if not (np.isfinite(wanted.w).all() and np.isfinite(wanted.doubt_of_w).all()):
        yield "fields", Unresolved(len(groups), INFINITE)
        return
    for paths in groups:
        steps = {path: rng.standard_normal(arrays[path].shape) for path in paths}
        norm = np.sqrt(sum((step**2).sum() for step in steps.values()))
        steps = {path: step / norm for path, step in steps.items()}
        yield from _along(trial, got, wanted, steps)


def _along(
    trial: Trial,
    got: dict[str, np.ndarray],
    wanted: ExpectedGradient,
    steps: dict[str, np.ndarray],
) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """The derivative along one direction of some fields together."""

    def terms(t: float, w: np.ndarray) -> np.ndarray:
        spec = map_arrays(trial.spec, lambda path, a: a + t * steps[path] if path in steps else a)
        context = trial.context
        if context is not None and "context" in steps:
            context = context + t * steps["context"]
        with np.errstate(all="ignore"):
            y, log_det = spec.forward(wanted.x, context)
        return wanted.sign * np.append(w * y.reshape(len(y), -1), wanted.v * log_det)

    try:
        size = abs(terms(1e-3, wanted.w)).sum()
    except ValueError:  # the reference refuses any other value
        yield ", ".join(steps), Unresolved(1, CONSTANT)
        return
    noise = float(np.finfo(np.float64).eps * size)
    want, doubt = derivative(lambda t: float(terms(t, wanted.w).sum()), noise=noise)
    # Components of very different widths: what is narrower than the ladder's steps, and small,
    # goes unnoticed until a step is taken that is smaller still.
    rise = terms(SMALL, wanted.w).sum() - terms(-SMALL, wanted.w).sum()
    doubt = max(doubt, abs(float(rise) / (2 * SMALL) - want) - 8 * noise / SMALL)
    if wanted.doubt_of_w.any():
        moved = abs(terms(1e-3, wanted.doubt_of_w) - terms(-1e-3, wanted.doubt_of_w)) / 2e-3
        doubt += float(moved.sum())
    products = np.concatenate([np.ravel(got[path] * step) for path, step in steps.items()])
    unit = max(1.0, float(abs(products).sum()))
    label = ", ".join(list(steps)[:3])
    if not doubt <= resolution(trial) * unit:
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
    """How exactly differences have to know a gradient, in parts of the terms it is summed from."""
    return max(RESOLVED, ROUNDINGS * trial.eps)


def _weights(trial: Trial, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = trial.rng("weights")
    w, v = (rng.standard_normal(shape) for shape in (output.shape, output.shape[:1]))
    return round_to(w, trial.dtype), round_to(v, trial.dtype)


def times(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Vector times matrix, for each example."""
    return np.einsum("bi,bij->bj", vector, matrix)


def _groups(paths: list[str], most: int, rng: np.random.Generator) -> list[list[str]]:
    if len(paths) <= most:
        return [[path] for path in paths]
    shuffled = [paths[i] for i in rng.permutation(len(paths))]
    count = min(FEW, most)
    return [shuffled[i::count] for i in range(count)]
