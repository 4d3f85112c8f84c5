"""Laws of networks, dequantizers, models and functions of the objective."""

from __future__ import annotations

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import LeftOut, Violation
from conformance.numerics.compare import compare


def value(trial: LayerTrial) -> Findings:
    """Every result = the reference's."""
    if set(trial.got) != set(trial.want):
        raise Violation(f"results {sorted(trial.got)}, not {sorted(trial.want)}")
    for name, want in trial.want.items():
        yield name, compare(trial.got[name], want, trial.dtype)


def layer_batch(trial: LayerTrial) -> Findings:
    """The same results for each example alone as in the batch."""
    axes = trial.case.batched
    if not axes:
        raise LeftOut("the result depends on the whole batch")
    first, axis = next(iter(axes.items()))
    for b in range(trial.arguments[first].shape[axis]):
        alone = {
            name: np.take(array, [b], axis=axes[name]) if name in axes else array
            for name, array in trial.arguments.items()
        }
        for name, result in trial.run(alone).items():
            yield f"{name}, alone", compare(result, trial.got[name][b : b + 1], trial.dtype)


def layer_contract(trial: LayerTrial) -> Findings:
    """Shapes and dtype as expected, inputs not written to, the same results when called again."""
    arguments = {name: trial.cast(array) for name, array in trial.arguments.items()}
    before = {name: array.copy() for name, array in arguments.items()}
    results = {name: np.array(a) for name, a in trial.run_uncopied(arguments).items()}
    for name, result in results.items():
        if result.shape != trial.want[name].shape:
            raise Violation(f"{name} has shape {result.shape}, not {trial.want[name].shape}")
        if result.dtype != trial.dtype:
            raise Violation(f"{name} is {result.dtype}, not {trial.dtype}")
    for name, array in arguments.items():
        if not np.array_equal(array, before[name]):
            raise Violation(f"argument {name} has been written to")
    for name, again in trial.run_uncopied(arguments).items():
        yield f"{name} again", compare(again, results[name], trial.dtype)
