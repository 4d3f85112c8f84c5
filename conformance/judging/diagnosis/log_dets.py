"""Known mistakes in a log-det."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from conformance.laws.trial import Trial
from reference.bijectors import (
    Bijector,
    Chain,
    Coupling,
    FactorOut,
    FirstChannels,
    Inverse,
    MixtureLogistic,
)

COUNTS: dict[str, Callable[[int, int], float]] = {
    "once": lambda height, width: 1.0,
    "H*H": lambda height, width: height * height,
    "W*W": lambda height, width: width * width,
    "H*W/2": lambda height, width: 0.5 * height * width,
    "2*H*W": lambda height, width: 2.0 * height * width,
}
"""Numbers of times that a log-det may have been counted; the right one is H*W."""

UNDECIDED = "do not tell which"
"""End of a hint with several counts that fit the shape."""


@dataclass(frozen=True)
class Part:
    """The log-det of one bijector of a composition, its input, and its number of positions."""

    name: str
    log_det: np.ndarray
    positions: int
    bijector: Bijector
    x: np.ndarray
    sign: float = 1.0


def log_det_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for the log-det of one direction."""
    for pattern in (_total, _part, _density, _scale_or_offset):
        yield lambda pattern=pattern: _of_right_values(trial, direction, pattern)  # type: ignore[misc]


def _of_right_values(trial: Trial, direction: str, pattern: Callable[[Trial, str], str]) -> str:
    """Explain a log-det only where the values are right: otherwise it is a consequence."""
    got, want = getattr(trial, f"got_{direction}")[0], getattr(trial, f"want_{direction}")[0]
    if differs(trial, np.asarray(got, np.float64), want):
        return ""
    return pattern(trial, direction)


def is_close(trial: Trial, got: np.ndarray, want: np.ndarray) -> bool:
    """Return whether two results differ by no more than rounding, not by a wrong formula."""
    tolerance = 1e-7 if trial.dtype == np.float64 else 1e-4
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, want, rtol=tolerance, atol=tolerance))


def differs(trial: Trial, got: np.ndarray, want: np.ndarray) -> bool:
    """Return whether results differ by more than a few hundred roundings."""
    return not error_of(got, want) <= 500 * trial.eps


def explains(got: np.ndarray, would_be: np.ndarray, want: np.ndarray) -> bool:
    """Return whether a hypothesis leaves less than a hundredth of the error, and little of it."""
    return error_of(got, would_be) <= min(1e-3, 0.01 * error_of(got, want))


def error_of(got: np.ndarray, want: np.ndarray) -> float:
    """Return the largest error, relative to values beyond 1; infinite if any is not finite."""
    if got.shape != want.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        errors = np.where(got == want, 0.0, np.abs(got - want) / np.maximum(1.0, np.abs(want)))
    return float("inf") if not np.isfinite(errors).all() else float(errors.max(initial=0.0))


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
    if isinstance(bijector, FactorOut | FirstChannels):
        half = x.shape[1] // 2 if isinstance(bijector, FactorOut) else bijector.channels
        a, b = x[:, :half], x[:, half:]
        a, found = parts(bijector.bijector, a, context, f"{name}bijector.")
        return np.concatenate([a, b], axis=1), found
    if isinstance(bijector, Inverse):
        y, _ = bijector.forward(x, context)
        _, found = parts(bijector.bijector, y, context, f"{name}bijector.")
        return y, [replace(part, log_det=-part.log_det, sign=-part.sign) for part in found]
    y, log_det = bijector.forward(x, context)
    kind = type(bijector).__name__
    label = f"{kind} ({name.rstrip('.')})" if name else kind
    return y, [Part(label, log_det, x[0, 0].size, bijector, x)]


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
        hint = _counted(trial, direction, name, group)
        if hint:
            return hint
        if is_close(trial, got, want - whole):
            return f"log_det of {name} is not added"
        if is_close(trial, got, want - 2.0 * whole):
            return f"log_det of {name} has the opposite sign"
    return ""


def _counted(trial: Trial, direction: str, name: str, group: list[Part]) -> str:
    """Name the counts of positions that the log-dets of some parts may have been multiplied by."""
    got, want = _got_and_want(trial, direction)
    sign = 1.0 if direction == "forward" else -1.0
    height, width = group[0].x.shape[2:]

    def fits(count: Callable[[int, int], float]) -> bool:
        added = [p.log_det * (count(*p.x.shape[2:]) / p.positions - 1.0) for p in group]
        return is_close(trial, got, want + sign * sum(added))

    likely = [text for text, count in COUNTS.items() if fits(count)]
    if not set(likely) - {"H*W/2", "2*H*W"}:
        return ""
    subject = f"log_det of {name}"
    if len(likely) > 1:
        return (
            f"{subject} is counted {' or '.join(likely)} times, not H*W = {height * width} times: "
            f"H = {height} and W = {width} {UNDECIDED}"
        )
    if likely == ["once"]:
        return (
            f"{subject} lacks the factor H*W = {height * width}: it is counted once, not at "
            "every position"
        )
    return f"{subject} is counted {likely[0]} times, not at each of H*W positions"


def _density(trial: Trial, direction: str) -> str:
    """Recognize a term left out of a mixture's log-density."""
    got, want = _got_and_want(trial, direction)
    if not differs(trial, got, want):
        return ""
    at = trial.x if direction == "forward" else trial.want_inverse[0]
    sign = 1.0 if direction == "forward" else -1.0
    with np.errstate(all="ignore"):
        found = [p for p in parts(trial.spec, at, trial.context)[1] if _is_mixture(p)]
        terms = [_left_out(part) for part in found]
    for name in terms[0] if terms else ():
        missing = sum(part.sign * one[name] for part, one in zip(found, terms, strict=True))
        if explains(got, want - sign * missing, want):
            return f"log_det of {found[0].name} lacks the term {name}"
    return ""


def _is_mixture(part: Part) -> bool:
    return isinstance(part.bijector, MixtureLogistic)


def _left_out(part: Part) -> dict[str, np.ndarray]:
    """Return the terms of log f - log F - log(1 - F) that are forgotten, summed per example."""
    spec, x = part.bijector, part.x[..., None]
    assert isinstance(spec, MixtureLogistic)
    weights = spec.logits - np.logaddexp.reduce(spec.logits, axis=-1, keepdims=True)
    z = (x - spec.means) * np.exp(-spec.log_scales)
    below, above = -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z)

    def total(terms: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(np.broadcast_to(terms, z.shape), axis=-1)

    log_f = total(weights - spec.log_scales + below + above)
    terms = {
        "-log(1 - F)": -total(weights + above),
        "-log F": -total(weights + below),
        "-log F - log(1 - F)": -total(weights + above) - total(weights + below),
        "-log_scale of the density": log_f - total(weights + below + above),
        "log(1 - sigmoid) of the density": log_f - total(weights - spec.log_scales + below),
    }
    return {name: term.reshape(len(term), -1).sum(axis=1) for name, term in terms.items()}


def _scale_or_offset(trial: Trial, direction: str) -> str:
    got, want = _got_and_want(trial, direction)
    if is_close(trial, got, want):
        return ""
    name, dims = f"log_det of {direction}", trial.x[0].size
    if dims > 1 and is_close(trial, got, want / dims):
        return f"{name} is the mean over channels and positions, not the sum"
    for factor, text in ((2.0, "it is counted twice"), (0.5, "half of it is missing")):
        if explains(got, want * factor, want):
            return f"{name} is {factor:g} times the truth: {text}"
    for factor, text in ((np.log(2.0), "natural logarithm for log2"), (1 / np.log(2.0), "log2")):
        if is_close(trial, got, want * factor):
            return f"{name} is {factor:.3f} times the truth: {text}"
    difference = got - want
    if len(got) > 1 and explains(got, want + difference.mean(), want):
        each = difference.mean() / dims
        return (
            f"{name} differs by the same {difference.mean():.6g} in every example, {each:.6g} a "
            "scalar: a constant term is missing or superfluous"
        )
    return ""
