"""The law that the gradients that train a model equal finite differences of the reference.

Each part of a model may have the right gradients and the whole still be wrong: if the dequantized
noise, its log-density or the features of a context are detached on the way, every value is
correct, and training silently loses part of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.adapter import NotSupported
from conformance.laws.directions import along
from conformance.laws.gradients import checked_gradients
from conformance.laws.guard import guarded
from conformance.laws.law import Findings
from conformance.laws.layer_trial import Arrays, LayerTrial
from conformance.laws.trial import Violation, generator
from conformance.numerics.specs import float_arrays, map_arrays, round_to
from reference.context import VectorEncoder

MIXED = 2
"""Number of directions in which random halves of all parameters change."""
STATISTICS = ("context_encoder.mean", "context_encoder.scale")
"""Constants of a model of vectors, which initialization takes from data."""


def bound_gradients(trial: LayerTrial) -> Findings:
    """Gradients of the bound for every parameter = finite differences of the reference."""
    if trial.inputs == "tails":
        return
    rng = generator(trial.seed, trial.case.name, "directions")
    weights = round_to(rng.standard_normal(len(trial.arguments["x"])), trial.dtype)
    arrays = parameters(trial)
    got = _gradients(trial, weights, arrays)
    for label, paths in _groups(list(arrays), rng):
        steps = {path: rng.standard_normal(arrays[path].shape) for path in paths}
        # Each array has the same share, so that many weights do not hide a few others.
        steps = {
            path: step / np.sqrt((step**2).sum() * len(steps)) for path, step in steps.items()
        }
        products = np.concatenate([np.ravel(got[path] * step) for path, step in steps.items()])
        yield from along(trial, _Terms(trial, weights, steps), products, label)


def parameters(trial: LayerTrial) -> Arrays:
    """Return the arrays that training changes, by path."""
    found = float_arrays(trial.spec)
    if isinstance(trial.spec.context_encoder, VectorEncoder):
        found = {path: array for path, array in found.items() if path not in STATISTICS}
    return found


class _Terms:
    """The weighted bounds of the reference as a function of a step along a direction."""

    def __init__(self, trial: LayerTrial, weights: np.ndarray, steps: Arrays) -> None:
        self.trial, self.weights, self.steps = trial, weights, steps

    def __call__(self, t: float) -> np.ndarray:
        def moved(path: str, array: np.ndarray) -> np.ndarray:
            return array + t * self.steps[path] if path in self.steps else array

        spec = map_arrays(self.trial.spec, moved)
        total: np.ndarray = spec.elbo(*self.trial.arguments.values()).total
        return self.weights * total


def _gradients(trial: LayerTrial, weights: np.ndarray, arrays: Arrays) -> Arrays:
    """Return the implementation's gradients of sum(weights * total).

    Raises:
        NotSupported: It has no such method.
        Violation: A gradient is missing, is not finite, or has another shape than its array.
    """
    method = getattr(trial.built, "bound_gradient", None)
    if method is None:
        raise NotSupported("the implementation has no bound_gradient")
    given = trial.arguments["x"], trial.arguments["noise"], trial.arguments.get("context"), weights
    result = guarded(method)(*(None if a is None else trial.cast(a) for a in given))
    trial.calls += 1
    got = checked_gradients(result, "bound_gradient", arrays)
    for path in arrays:
        if not np.isfinite(got[path]).all():
            raise Violation(f"the gradient for {path} is not finite")
    return got


def _groups(paths: list[str], rng: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
    """Yield the parameters of each part of the model, then random halves of all."""
    for part in dict.fromkeys(path.partition(".")[0] for path in paths):
        yield part, [path for path in paths if path.partition(".")[0] == part]
    shuffled = [paths[i] for i in rng.permutation(len(paths))]
    for half in range(MIXED):
        if chosen := shuffled[half::MIXED]:
            yield f"half {half + 1} of all parameters", chosen
