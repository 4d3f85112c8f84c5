"""Diagnosis of the sizes for which an implementation is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise, permutations

from conformance.laws.random_trial import RandomTrial, Tried

Features = dict[str, int]
Condition = tuple[str, Callable[[Features], bool]]


def size_patterns(trial: RandomTrial) -> Iterator[Callable[[], str]]:
    """Yield the pattern for what the law `sizes` has tried."""
    yield lambda: wrong_sizes(trial.tried)


def wrong_sizes(tried: list[Tried]) -> str:
    """Name the simplest condition that separates wrong sizes from right ones; "" if none does."""
    if not tried or all(one.right for one in tried):
        return ""
    if not any(one.right for one in tried):
        return ""  # the other laws explain it
    for text, holds in _conditions(tried):
        if all(holds(one.features) != one.right for one in tried):
            return f"of the sizes tried, exactly those are wrong where {text}"
    wrong = [one for one in tried if not one.right]
    for text, holds in _conditions(tried):
        inside = [one for one in tried if holds(one.features)]
        if all(holds(one.features) for one in wrong) and 2 * len(wrong) > len(inside):
            return f"of the sizes tried, only some are wrong where {text}"
    return ""


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
        for divisor in (2, 4, 8, 16):
            text = f"{name} is more than {divisor} and no multiple of it"
            yield text, partial(_no_multiple, name, divisor)
            yield f"{name} is odd and more than {divisor}", partial(_odd, name, divisor)
    for one, other in permutations(names, 2):
        yield f"{one} is more than {other}", partial(_more, one, other)


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
