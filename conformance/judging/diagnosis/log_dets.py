"""Known mistakes in a log-det."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from conformance.laws.trial import Trial
from reference.bijectors import Bijector, Chain, Coupling, FactorOut, Inverse


@dataclass(frozen=True)
class Part:
    """The log-det of one bijector of a composition, and its number of positions."""

    name: str
    log_det: np.ndarray
    positions: int


def log_det_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for the log-det of one direction."""
    for pattern in (_total, _part, _scale_or_offset):
        yield lambda pattern=pattern: pattern(trial, direction)  # type: ignore[misc]


def is_close(trial: Trial, got: np.ndarray, want: np.ndarray) -> bool:
    """Return whether two results differ by no more than rounding, not by a wrong formula."""
    tolerance = 1e-7 if trial.dtype == np.float64 else 1e-4
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, want, rtol=tolerance, atol=tolerance))


def first_non_finite(array: np.ndarray) -> tuple[tuple[int, ...], str]:
    """Return the index of the first number that is not finite, and a text of both."""
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return index, f"{array[index]:g} at [{', '.join(map(str, index))}]"


def parts(
    bijector: Bijector, x: np.ndarray, context: np.ndarray | None, name: str = ""
) -> tuple[np.ndarray, list[Part]]:
    """Return y, and the forward log-det of each part of a composition."""
    if isinstance(bijector, Chain):
        found: list[Part] = []
        for i, member in enumerate(bijector.bijectors):
            x, inner = parts(member, x, context, f"{name}bijectors.{i}.")
            found += inner
        return x, found
    if isinstance(bijector, Coupling):
        a, b = np.split(x, 2, axis=1)
        elementwise = bijector.member(bijector.conditioner(a, context), b)
        b, found = parts(elementwise, b, context, f"{name}family ")
        return np.concatenate([a, b], axis=1), found
    if isinstance(bijector, FactorOut):
        a, b = np.split(x, 2, axis=1)
        a, found = parts(bijector.bijector, a, context, f"{name}bijector.")
        return np.concatenate([a, b], axis=1), found
    if isinstance(bijector, Inverse):
        y, _ = bijector.forward(x, context)
        _, found = parts(bijector.bijector, y, context, f"{name}bijector.")
        return y, [Part(part.name, -part.log_det, part.positions) for part in found]
    y, log_det = bijector.forward(x, context)
    kind = type(bijector).__name__
    return y, [Part(f"{kind} ({name.rstrip('.')})" if name else kind, log_det, x[0, 0].size)]


def _got_and_want(trial: Trial, direction: str) -> tuple[np.ndarray, np.ndarray]:
    got, want = getattr(trial, f"got_{direction}"), getattr(trial, f"want_{direction}")
    return np.asarray(got[1], np.float64), want[1]


def _total(trial: Trial, direction: str) -> str:
    got, want = _got_and_want(trial, direction)
    if is_close(trial, got, want):
        return ""
    name = f"log_det of {direction}"
    if not np.isfinite(got).all():
        if not np.isfinite(getattr(trial, f"got_{direction}")[0]).all():
            return ""  # a consequence: the pattern of the values explains it
        return f"{name} is {first_non_finite(got)[1]}; possibly a logarithm of 0 or of an overflow"
    if is_close(trial, got, -want):
        return f"{name} has the opposite sign: it is that of the other direction"
    if not got.any():
        return f"{name} is 0: lost, or never added"
    if len(got) > 1 and is_close(trial, got, np.full_like(got, want.sum())):
        return f"{name} is the sum over the batch, for each example: per batch, not per example"
    if len(got) > 1 and np.ptp(want) > 0 and is_close(trial, got, np.full_like(got, want.mean())):
        return f"{name} is the mean over the batch: per batch, not per example"
    return ""


def _part(trial: Trial, direction: str) -> str:
    got, want = _got_and_want(trial, direction)
    if is_close(trial, got, want):
        return ""
    at = trial.x if direction == "forward" else trial.want_inverse[0]
    sign = 1.0 if direction == "forward" else -1.0
    with np.errstate(all="ignore"):
        _, found = parts(trial.spec, at, trial.context)
    kinds: dict[str, list[Part]] = {}
    for part in found:
        kinds.setdefault(part.name.split(" ")[0], []).append(part)
    groups = [(part.name, [part]) for part in found]
    groups += [(f"every {kind}", group) for kind, group in kinds.items() if len(group) > 1]
    for name, group in groups:
        whole = sign * sum(part.log_det for part in group)
        if not np.abs(whole).max() > 1e-3:
            continue
        once = sign * sum(part.log_det / part.positions for part in group)
        if group[0].positions > 1 and is_close(trial, got, want - whole + once):
            return (
                f"log_det of {name} lacks the factor H*W = {group[0].positions}: "
                "it is counted once, not at every position"
            )
        if is_close(trial, got, want - whole):
            return f"log_det of {name} is not added"
        if is_close(trial, got, want - 2.0 * whole):
            return f"log_det of {name} has the opposite sign"
    return ""


def _scale_or_offset(trial: Trial, direction: str) -> str:
    got, want = _got_and_want(trial, direction)
    if is_close(trial, got, want):
        return ""
    name, dims = f"log_det of {direction}", trial.x[0].size
    if dims > 1 and is_close(trial, got, want / dims):
        return f"{name} is the mean over channels and positions, not the sum"
    for factor, text in ((np.log(2.0), "natural logarithm for log2"), (1 / np.log(2.0), "log2")):
        if is_close(trial, got, want * factor):
            return f"{name} is {factor:.3f} times the truth: {text}"
    difference = got - want
    if len(got) > 1 and is_close(trial, difference, np.full_like(got, difference.mean())):
        each = difference.mean() / dims
        return (
            f"{name} differs by the same {difference.mean():.6g} in every example, {each:.6g} a "
            "scalar: a constant term is missing or superfluous"
        )
    return ""
