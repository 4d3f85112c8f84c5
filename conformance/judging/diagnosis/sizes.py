"""Diagnosis of the sizes for which an implementation is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from conformance.cases.case import Case
from conformance.cases.sizes import Sized
from conformance.judging.diagnosis.log_dets import UNDECIDED, log_det_patterns
from conformance.judging.diagnosis.parameters import best_mistake, is_visible
from conformance.laws.random_trial import RandomTrial, Tried
from conformance.laws.trial import Trial, generator

Features = dict[str, int]
Condition = tuple[str, Callable[[Features], bool]]
Visible = Callable[[Any, np.ndarray], bool]
"""Function of a specification and x that returns whether a mistake changes the results."""
DIVISORS = (2, 4, 8, 16)
EXPLAINED = 3
MAX_ALTERNATIVES = 3


def size_patterns(trial: RandomTrial) -> Iterator[Callable[[], str]]:
    """Yield the patterns for what the law `sizes` has tried."""
    yield lambda: _wrong_sizes_and_mistake(trial)


def _wrong_sizes_and_mistake(trial: RandomTrial) -> str:
    """Name the sizes that are wrong, and the mistake; only this if the sizes follow from it."""
    drawn = _drawn(trial)
    mistake, visible = _mistake_at_wrong(trial, drawn)
    if visible and all(
        visible(*one) != tried.right for one, tried in zip(drawn, trial.tried, strict=True)
    ):
        return mistake
    return "; ".join(filter(None, (wrong_sizes(trial.tried), mistake)))


def _drawn(trial: RandomTrial) -> list[Sized]:
    """Return the specifications and inputs that were tried; none if some are not supported."""
    assert trial.case.sizes is not None
    drawn = list(trial.case.sizes(generator(trial.seed, trial.case.name, "sizes")))
    return drawn if len(drawn) == len(trial.tried) else []


def wrong_sizes(tried: list[Tried]) -> str:
    """Name the simplest condition that separates wrong sizes from right ones; "" if none does."""
    wrong = [one for one in tried if not one.right]
    if not wrong or len(wrong) == len(tried):
        return ""  # the other laws explain it
    for text, holds in _conditions(tried):
        if all(holds(one.features) != one.right for one in tried):
            return f"of the sizes tried, exactly those are wrong where {text}"
    found = [
        text
        for text, holds in _joint_conditions(tried)
        if all(holds(one.features) != one.right for one in tried)
    ]
    if found:
        texts = ", or where ".join(found[:MAX_ALTERNATIVES])
        several = ": either is possible" if len(found) > 1 else ""
        return f"of the sizes tried, exactly those are wrong where {texts}{several}"
    for text, holds in _conditions(tried):
        inside = [one for one in tried if holds(one.features)]
        if all(holds(one.features) for one in wrong) and 2 * len(wrong) > len(inside):
            return f"of the sizes tried, only some are wrong where {text}"
    return _common(tried, wrong)


def _common(tried: list[Tried], wrong: list[Tried]) -> str:
    """Name a size that all wrong examples have in common, and others have not."""
    for name in wrong[0].features:
        sizes = {one.features.get(name, 0) for one in wrong}
        if (
            len(wrong) > 2
            and len(sizes) == 1
            and {o.features.get(name, 0) for o in tried} != sizes
        ):
            return f"of the sizes tried, only some are wrong where {name} is {sizes.pop()}"
    return ""


def _mistake_at_wrong(trial: RandomTrial, drawn: list[Sized]) -> tuple[str, Visible | None]:
    """Name the mistake that explains the first wrong sizes, each by itself.

    The second result tells at which sizes the mistake is seen, if it is known.
    """
    pairs = zip(drawn, trial.tried, strict=True) if drawn else ()
    wrong = [one for one, tried in pairs if not tried.right]
    # One row or column does not tell H*H from H*W.
    wrong.sort(key=lambda one: min(one[1].shape[2:]) == 1)
    found = [_mistake(trial, *one) for one in wrong[:EXPLAINED]]
    found = [one for one in found if UNDECIDED not in one[0]] or found
    kinds = {re.sub(r" = [0-9]+", "", hint) for hint, _ in found}
    if len(kinds) != 1:
        return "", None
    return kinds.pop(), found[0][1]


def _mistake(trial: RandomTrial, spec: Any, x: np.ndarray) -> tuple[str, Visible | None]:
    case = Case(trial.case.name, lambda rng: spec, lambda rng: x, lambda rng: x)
    one = Trial(case, trial.adapter, trial.dtype.name, "typical", trial.seed, trial.device)
    for direction in ("forward", "inverse"):
        try:
            best = best_mistake(one, direction)
            if best:
                return best[0], lambda spec, x, change=best[1]: is_visible(spec, change, x)
            for pattern in log_det_patterns(one, direction):
                hint = pattern()
                if hint:
                    return hint, _visible_count(hint)
        except Exception:  # the implementation may raise for this size
            continue
    return "", None


def _visible_count(hint: str) -> Visible | None:
    """Return at which sizes a wrong count of positions is seen; None for another mistake."""
    if "lacks the factor H*W" in hint:
        return lambda spec, x: x[0, 0].size > 1
    if "is counted H*H times" in hint or "is counted W*W times" in hint:
        return lambda spec, x: x.shape[2] != x.shape[3]
    return None


def _conditions(tried: list[Tried]) -> Iterator[Condition]:
    names = list(dict.fromkeys(name for one in tried for name in one.features))
    yield "height and width differ", lambda f: f["height"] != f["width"]
    yield "height and width are equal", lambda f: f["height"] == f["width"]
    for name in names:
        values = sorted({one.features.get(name, 0) for one in tried})
        for below, value in pairwise(values):
            text = f"{name} is {below + 1} or more (tried: {below} right, {value} wrong)"
            yield text, partial(_at_least, name, value)
            yield f"{name} is less than {value}", partial(_less, name, value)
        for value in values if len(values) > 1 else ():
            yield f"{name} is {value}", partial(_equal, name, value)
        yield f"{name} is odd", partial(_odd, name, 0)
        for divisor in DIVISORS:
            if name == "components":
                text = f"{name} is more than {divisor} and no multiple of it"
                yield text, partial(_no_multiple, name, divisor)
            yield f"{name} is odd and more than {divisor}", partial(_odd, name, divisor)
    for one, other in permutations(names, 2):
        yield f"{one} is more than {other}", partial(_more, one, other)


def _joint_conditions(tried: list[Tried]) -> Iterator[Condition]:
    """Yield conditions that few examples may meet by chance."""
    for one, other in (("width", "height"), ("height", "width")):
        for name in (one, other):
            for below, value in pairwise(sorted({t.features.get(name, 0) for t in tried})):
                yield (
                    f"{one} is more than {other} and {name} is {below + 1} or more",
                    partial(_more_and_at_least, one, other, name, value),
                )
    for name in ("channels", "height", "width"):
        for divisor in DIVISORS:
            text = f"{name} is more than {divisor} and no multiple of it"
            yield text, partial(_no_multiple, name, divisor)


def _more_and_at_least(one: str, other: str, name: str, value: int, features: Features) -> bool:
    return _more(one, other, features) and _at_least(name, value, features)


def _at_least(name: str, value: int, features: Features) -> bool:
    return features.get(name, 0) >= value


def _less(name: str, value: int, features: Features) -> bool:
    return features.get(name, 0) < value


def _equal(name: str, value: int, features: Features) -> bool:
    return features.get(name, 0) == value


def _odd(name: str, least: int, features: Features) -> bool:
    return features.get(name, 0) > least and features.get(name, 0) % 2 == 1


def _no_multiple(name: str, divisor: int, features: Features) -> bool:
    return features.get(name, 0) > divisor and features.get(name, 0) % divisor > 0


def _more(one: str, other: str, features: Features) -> bool:
    return features.get(one, 0) > features.get(other, 0)
