"""Known mistakes in layers, models and functions of the objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from conformance.judging.diagnosis.log_dets import first_non_finite
from conformance.judging.diagnosis.places import is_wrong, tolerance, wrong_place
from conformance.laws.batch import MANY
from conformance.laws.layer_trial import LayerTrial


def layer_patterns(trial: LayerTrial) -> Iterator[Callable[[], str]]:
    """Yield the patterns for each named result of a layer."""
    for pattern in (_constant, _zero_weights, _layer, _made_finite):
        for name in trial.want:
            yield lambda pattern=pattern, name=name: pattern(trial, name)  # type: ignore[misc]


def layer_place_patterns(trial: LayerTrial) -> Iterator[Callable[[], str]]:
    """Yield the experiments on the place of wrong numbers."""
    for pattern in (_place, _large_batch):
        for name in trial.want:
            yield lambda pattern=pattern, name=name: pattern(trial, name)  # type: ignore[misc]


def _pair(trial: LayerTrial, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (got, want, which numbers are wrong).

    Raises:
        ValueError: There is nothing to explain: the shapes differ, or no number is wrong.
    """
    got, want = np.asarray(trial.got[name], np.float64), trial.want[name]
    if got.shape != want.shape:
        raise ValueError("results of another shape")
    wrong = is_wrong(got, want, tolerance(trial.dtype))
    if not wrong.any():
        raise ValueError("no wrong number to explain")
    return got, want, wrong


def _constant(trial: LayerTrial, name: str) -> str:
    """Try inputs that vary in place of a channel without variance."""
    _, _, wrong = _pair(trial, name)
    x = trial.arguments.get("x")
    if x is None or x.ndim != 4 or not np.issubdtype(x.dtype, np.floating) or len(x) < 2:
        return ""
    constant = np.ptp(x, axis=(0, 2, 3)) == 0.0
    if not constant.any():
        return ""
    noise = np.random.default_rng(0).standard_normal(x.shape)
    varied = trial.arguments | {"x": np.where(constant[:, None, None], x + noise, x)}
    got, want = trial.run(varied), trial.reference(varied)
    if any(is_wrong(got[key], want[key], tolerance(trial.dtype)).any() for key in want):
        return ""
    where = "a channel is"
    if not constant.all() and wrong.ndim == 4 and wrong.shape[1] == len(constant):
        if (wrong.any(axis=(0, 2, 3)) != constant).any():
            return ""
        places = np.flatnonzero(constant)
        plural = "channel {} is" if len(places) == 1 else "channels {} are"
        where = plural.format(", ".join(map(str, places)))
    return (
        f"{name} is wrong only where {where} constant in the batch, with a variance of 0; the "
        "same call with inputs that vary is right"
    )


def _zero_weights(trial: LayerTrial, name: str) -> str:
    """Recognize what becomes of weights of 0, whose logarithm is -inf."""
    got, want, wrong = _pair(trial, name)
    weights = trial.arguments.get("log_weights")
    if weights is None or not np.isneginf(weights).any() or got.shape != weights.shape[1:]:
        return ""
    zero = np.isneginf(weights)
    with np.errstate(all="ignore"):
        kept = want - np.log((~zero).mean(axis=0))
    some = ~zero.all(axis=0)
    if not is_wrong(got[some], kept[some], tolerance(trial.dtype)).any():
        return f"weights of 0 are left out of the mean: {name} divides by the number of the others"
    if zero.any(axis=0).all() and wrong.all():
        finite = trial.arguments | {"log_weights": np.where(zero, weights[~zero].min(), weights)}
        other = np.asarray(trial.run(finite)[name], np.float64)
        if is_wrong(other, trial.reference(finite)[name], tolerance(trial.dtype)).any():
            return ""
    elif (wrong != zero.any(axis=0)).any():
        return ""
    what = "NaN" if np.isnan(got[wrong]).all() else "wrong"
    return f"{name} is {what} exactly where a weight is 0, its logarithm -inf"


def _made_finite(trial: LayerTrial, name: str) -> str:
    got, want, wrong = _pair(trial, name)
    if not np.isinf(want[wrong]).all() or not np.isfinite(got[wrong]).all():
        return ""
    first = tuple(np.argwhere(wrong)[0])
    return (
        f"{name} is {got[first]:g} where it must be {want[first]:g}: an infinite result is "
        "replaced by a number, as by a clip or nan_to_num"
    )


def _place(trial: LayerTrial, name: str) -> str:
    got, want, _ = _pair(trial, name)
    return wrong_place(name, got, want, tolerance(trial.dtype))


def _large_batch(trial: LayerTrial, name: str) -> str:
    """Repeat the examples, and find the place from which on results differ."""
    axes = trial.case.batched
    if not axes:
        return ""
    count = trial.arguments[next(iter(axes))].shape[axes[next(iter(axes))]]
    order = np.resize(np.arange(count), MANY)
    arguments = {
        key: np.take(array, order, axis=axes[key]) if key in axes else array
        for key, array in trial.arguments.items()
    }
    got, want = trial.run(arguments)[name], trial.got[name][order]
    if got.shape != want.shape:
        return ""
    wrong = is_wrong(np.float64(got), np.float64(want), 10.0 * tolerance(trial.dtype))
    examples = np.flatnonzero(wrong.reshape(MANY, -1).any(axis=1))
    if not examples.size or examples[0] < count:
        return ""
    return f"examples from number {examples[0]} of a large batch on are wrong"


def _layer(trial: LayerTrial, name: str) -> str:
    got = np.asarray(trial.got[name], np.float64)
    want = trial.want[name]
    tolerance = 1e-7 if trial.dtype == np.float64 else 1e-4

    def matches(value: np.ndarray) -> bool:
        return bool(np.allclose(got, value, rtol=tolerance, atol=tolerance))

    if got.shape != want.shape or matches(want):
        return ""
    if (np.isfinite(want) & ~np.isfinite(got)).any():
        wrong = np.where(np.isfinite(want), got, 0.0)
        return (
            f"{name} is {first_non_finite(wrong)[1]}; possibly an exponential overflows, or a "
            "logarithm of 0 is taken"
        )
    if name == "total" and "log_q" in trial.want:
        log_q = trial.want["log_q"]
        if matches(want + log_q):
            return "log q is left out of the bound"
        if matches(want + 2.0 * log_q):
            return "log q has the opposite sign: it is subtracted from the bound"
    if matches(-want):
        return f"{name} has the opposite sign"
    if matches(want * np.log(2.0)):
        return f"{name} is in nats and must be in bits: natural logarithm for log2"
    if matches(want / np.log(2.0)):
        return f"{name} is in bits and must be in nats: log2 for the natural logarithm"
    if not got.any():
        return f"{name} is 0: lost, or never computed"
    return _layer_batch(name, got, want, tolerance)


def _layer_batch(name: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    """Explain a result of one number per example."""
    if got.ndim != 1 or len(got) < 2 or not (np.isfinite(got) & np.isfinite(want)).all():
        return ""
    difference = got - want
    if np.ptp(difference) <= tolerance * max(1.0, abs(want).max()):
        return (
            f"{name} differs by the same {difference.mean():.6g} in every example: "
            "a constant is missing or superfluous"
        )
    if np.ptp(got) == 0.0 and np.ptp(want) > 0.0:
        return f"{name} is the same for all examples: computed per batch, not per example"
    return ""
