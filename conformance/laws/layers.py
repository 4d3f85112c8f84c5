"""Laws of networks, dequantizers, models and functions of the objective."""

from __future__ import annotations

import numpy as np

from conformance.laws.batch import MANY
from conformance.laws.consistency import is_stale
from conformance.laws.generators import check_generators
from conformance.laws.law import Findings
from conformance.laws.layer_trial import Arrays, LayerTrial
from conformance.laws.trial import LeftOut, Violation
from conformance.numerics.compare import Comparison, compare


def value(trial: LayerTrial) -> Findings:
    """Every result = the reference's."""
    for name, want in trial.want.items():
        yield name, compare(trial.got[name], want, trial.dtype, unit=trial.units.get(name))


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
            yield f"{name}, alone", _compare_rows(result, name, np.array([b]), trial)
    count = trial.arguments[first].shape[axis]
    for label, chosen in (("empty batch", np.arange(0)), *_many(trial, count)):
        arguments = {
            name: np.take(array, chosen, axis=axes[name]) if name in axes else array
            for name, array in trial.arguments.items()
        }
        for name, result in trial.run(arguments).items():
            yield f"{name}, {label}", _compare_rows(result, name, chosen, trial)


def _many(trial: LayerTrial, count: int) -> list[tuple[str, np.ndarray]]:
    if trial.inputs == "tails":
        return []
    return [(f"{MANY} of them", np.resize(np.arange(count), MANY))]


def _compare_rows(got: np.ndarray, name: str, rows: np.ndarray, trial: LayerTrial) -> Comparison:
    """Compare results with those of the same examples in the whole batch."""
    want, units = trial.got[name][rows], trial.units.get(name)
    if not want.size:
        return Comparison.exact(1)
    return compare(got, want, trial.dtype, unit=None if units is None else units[rows])


def layer_contract(trial: LayerTrial) -> Findings:
    """Shapes and dtype as expected, inputs not written to, the same results when called again."""
    arguments = {name: trial.cast(array) for name, array in trial.arguments.items()}
    before = {name: array.copy() for name, array in arguments.items()}
    results = {name: np.array(a) for name, a in trial.run_uncopied(arguments).items()}
    for name, result in results.items():
        if result.dtype != trial.dtype:
            raise Violation(f"{name} is {result.dtype}, not {trial.dtype}")
    for name, array in arguments.items():
        if not np.array_equal(array, before[name]):
            raise Violation(f"argument {name} has been written to")
    if trial.inputs == "tails":
        for name, again in trial.run_uncopied(arguments).items():
            yield f"{name} again", compare(again, results[name], trial.dtype)
        return
    for seeded in check_generators(lambda: trial.run_uncopied(arguments), "the call"):
        for name, again in seeded.items():
            yield f"{name} again", compare(again, results[name], trial.dtype)
    _check_changed_arguments(trial, arguments)


def _check_changed_arguments(trial: LayerTrial, arguments: Arrays) -> None:
    """Require the results of the numbers that are in an array now, not of those that were.

    Raises:
        Violation: The results are those of other numbers.
    """
    for name, axis in trial.case.batched.items():
        arguments[name][...] = np.flip(arguments[name], axis).copy()
    if not trial.case.batched:
        return
    for name, result in trial.run_uncopied(arguments).items():
        if is_stale(result, trial.got[name][::-1]):
            raise Violation(f"{name} is wrong after an argument was changed in place")
