"""Laws of what is no bijector: networks, dequantizers, models, functions of the objective."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import LeftOut, Violation
from conformance.numerics.compare import Comparison, compare


def value(trial: LayerTrial) -> Iterator[tuple[str, Comparison]]:
    """Every result = the reference's."""
    if set(trial.got) != set(trial.want):
        raise Violation(f"results {sorted(trial.got)}, not {sorted(trial.want)}")
    for name, want in trial.want.items():
        yield name, compare(trial.got[name], want, trial.dtype)


def layer_batch(trial: LayerTrial) -> Iterator[tuple[str, Comparison]]:
    """Each example alone gives the same as in the batch."""
    axes = trial.case.batched
    if not axes:
        raise LeftOut("the examples of a batch belong together here")
    first, axis = next(iter(axes.items()))
    for b in range(trial.arguments[first].shape[axis]):
        alone = {
            name: np.take(array, [b], axis=axes[name]) if name in axes else array
            for name, array in trial.arguments.items()
        }
        for name, result in trial.run(alone).items():
            yield f"{name}, alone", compare(result, trial.got[name][b : b + 1], trial.dtype)


def layer_contract(trial: LayerTrial) -> Iterator[tuple[str, Comparison]]:
    """Shapes and dtype are kept, inputs are not written to, nothing is random."""
    arguments = {name: trial.cast(array) for name, array in trial.arguments.items()}
    before = {name: array.copy() for name, array in arguments.items()}
    results = {name: np.array(a) for name, a in trial.run_as_is(arguments).items()}
    for name, result in results.items():
        if result.shape != trial.want[name].shape:
            raise Violation(f"{name} has shape {result.shape}, not {trial.want[name].shape}")
        if result.dtype != trial.dtype:
            raise Violation(f"{name} is {result.dtype}, not {trial.dtype}")
    for name, array in arguments.items():
        if not np.array_equal(array, before[name]):
            raise Violation(f"argument {name} has been written to")
    for name, again in trial.run_as_is(arguments).items():
        yield f"{name} again", compare(again, results[name], trial.dtype)
