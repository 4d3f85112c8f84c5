"""Laws of conditional models: each image's result is that of its own context."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.adapter import NotSupported
from conformance.laws.directions import along
from conformance.laws.guard import guarded, real_array, require_shape
from conformance.laws.law import Findings
from conformance.laws.layer_trial import Arrays, LayerTrial
from conformance.laws.trial import LeftOut, Violation, generator
from conformance.numerics.compare import compare
from conformance.numerics.specs import round_to


def contexts(trial: LayerTrial) -> Findings:
    """Every image with every context, alone and among others, as in the reference."""
    if trial.inputs == "tails":
        return
    for label, arguments in _with_each_context(trial):
        want = trial.reference(arguments)
        for name, got in trial.run(arguments).items():
            yield f"{name}, {label}", compare(got, want[name], trial.dtype)


def _with_each_context(trial: LayerTrial) -> Iterator[tuple[str, Arrays]]:
    """Yield the trial's images with other contexts: one for all, and a different one for each."""
    every = drawn_contexts(trial)
    batch = len(trial.arguments["context"])
    for i in range(len(every)):
        one = np.full(batch, i)
        yield f"context {i} for all", {**trial.arguments, "context": every[one]}
    for first in range(len(every)):
        order = (first + np.arange(batch)) % len(every)
        yield f"contexts from {first} on", {**trial.arguments, "context": every[order]}


def drawn_contexts(trial: LayerTrial) -> np.ndarray:
    """Return the case's contexts, real ones rounded to the dtype."""
    draw = trial.case.contexts
    assert draw is not None
    return round_to(draw(generator(trial.seed, trial.case.name, "contexts")), trial.dtype)


def context_gradients(trial: LayerTrial) -> Findings:
    """Gradients of the bound for the context = finite differences of the reference."""
    context = trial.arguments["context"]
    if not np.issubdtype(context.dtype, np.floating):
        raise LeftOut("labels have no gradient")
    if trial.inputs == "tails":
        return
    rng = generator(trial.seed, trial.case.name, "directions")
    weights = round_to(rng.standard_normal(len(context)), trial.dtype)
    got = _gradient(trial, weights)
    for b in range(len(context)):
        step = np.zeros(context.shape)
        step[b] = rng.standard_normal(context.shape[1:])
        step /= np.sqrt((step**2).sum())
        yield from _along(trial, got, weights, step, f"context of example {b}")


def _gradient(trial: LayerTrial, weights: np.ndarray) -> np.ndarray:
    """Return the implementation's gradient of sum(weights * total) for the context.

    Raises:
        NotSupported: It has no such method.
        Violation: It is not finite, or has another shape than the context.
    """
    method = getattr(trial.built, "context_gradient", None)
    if method is None:
        raise NotSupported("the implementation has no context_gradient")
    given = (*trial.arguments.values(), weights)
    result = guarded(method)(*(trial.cast(array) for array in given))
    trial.calls += 1
    got = real_array(result, "the gradient for the context")
    require_shape(got, trial.arguments["context"].shape, "the gradient for the context")
    if not np.isfinite(got).all():
        raise Violation("the gradient for the context is not finite")
    return got


def _along(
    trial: LayerTrial, got: np.ndarray, weights: np.ndarray, step: np.ndarray, label: str
) -> Findings:
    """Compare the derivative along one direction of the context."""

    def terms(t: float) -> np.ndarray:
        moved = trial.arguments["context"] + t * step
        total: np.ndarray = trial.spec.elbo(**{**trial.arguments, "context": moved}).total
        return weights * total

    yield from along(trial, terms, got * step, label)
