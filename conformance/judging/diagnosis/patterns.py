"""Known mistakes, as experiments: `of` lists those that could explain a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.judging.diagnosis.log_dets import log_det_patterns
from conformance.judging.diagnosis.values import gradient_patterns, value_patterns
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Trial

Pattern = Callable[[], str]

MESSAGES = {
    "not (array, log_det)": "forward and inverse return a pair: the array and its log_det",
    "has written to its": "an operation in place works on the caller's own memory",
    "specification has been written to": "an operation in place works on the parameters given",
    "is float32, not float64": "something is made or kept in float32, whatever is asked for",
    "is float64, not float32": "something is made or kept in float64, whatever is asked for",
    "overwritten by the next call": "one buffer is handed out again and again",
}


SATURATED = "saturated: a clamp, or a squashing in floats that cannot show the end"
OTHERS = "an example's answer depends on the others of its batch"
GENERAL = {
    "batch": OTHERS,
    "layer_batch": OTHERS,
    "layout": "memory is read in the order it lies in, not in the array's own",
    "determinism": "something random, or a state that is kept from call to call",
    "monotone": SATURATED,
    "onto": SATURATED,
}


def of(trial: Any, law: str, broken: BaseException | None) -> Iterator[Pattern]:
    """The experiments worth trying, the most telling first."""
    if broken is not None:
        yield lambda: by_message(trial, str(broken))
    if isinstance(trial, Trial):
        if law in ("gradients", "inverse_gradients", "log_prob_gradients"):
            yield from gradient_patterns(trial, law)
        for direction in _directions(law):
            yield from log_det_patterns(trial, direction)
            yield from value_patterns(trial, direction)
    elif isinstance(trial, LayerTrial):
        yield from layer_patterns(trial)


def general(law: str) -> str:
    """What can be said from the law alone, where no experiment explains the failure."""
    return GENERAL.get(law, "")


def by_message(trial: Any, message: str) -> str:
    """What broke says it all."""
    for part, hint in MESSAGES.items():
        if part in message:
            return hint
    if "log_det of" in message and "has shape ()" in message:
        return "log_det is one number an example: here it is summed over the batch as well"
    if "log_det of" in message and "has shape" in message:
        return "log_det is one number an example: sum over channels, height and width"
    return ""


def _directions(law: str) -> tuple[str, ...]:
    if law.startswith("inverse") or law in ("round_trip_y", "opposite"):
        return ("inverse", "forward")
    return ("forward", "inverse")


def layer_patterns(trial: LayerTrial) -> Iterator[Pattern]:
    """For results by name, compared with the reference's."""
    for name in trial.want:
        yield lambda name=name: _layer(trial, name)  # type: ignore[misc]


def _layer(trial: LayerTrial, name: str) -> str:
    got = np.asarray(trial.got[name], np.float64)
    want = trial.want[name]
    near = 1e-7 if trial.dtype == np.float64 else 1e-4

    def like(value: np.ndarray) -> bool:
        return bool(np.allclose(got, value, rtol=near, atol=near))

    if got.shape != want.shape or like(want):
        return ""
    if not np.isfinite(got).all():
        return f"{name} is not finite: an exponential overflows, or a logarithm is of 0"
    if name == "total" and "log_q" in trial.want:
        log_q = trial.want["log_q"]
        if like(want + log_q):
            return "log q is left out of the bound"
        if like(want + 2.0 * log_q):
            return "log q has the opposite sign: it is subtracted from the bound"
    if like(-want):
        return f"{name} has the opposite sign"
    if like(want * np.log(2.0)):
        return f"{name} is in nats where bits are wanted: natural logarithm for log2"
    if like(want / np.log(2.0)):
        return f"{name} is in bits where nats are wanted: log2 for the natural logarithm"
    if not got.any():
        return f"{name} is 0: lost, or never computed"
    difference = got - want
    if got.ndim == 1 and len(got) > 1 and np.ptp(difference) <= near * max(1.0, abs(want).max()):
        return (
            f"{name} differs by the same {difference.mean():.6g} in every example: "
            "a constant is missing or too much"
        )
    if got.ndim == 1 and len(got) > 1 and np.ptp(got) == 0.0 and np.ptp(want) > 0.0:
        return f"{name} is the same for all examples: per batch where it is per example"
    return ""
