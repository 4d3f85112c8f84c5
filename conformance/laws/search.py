"""Search for the smallest counterexample, among examples drawn by NumPy and by Hypothesis."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases.source import HypothesisSource, Source, VariedSource
from conformance.numerics.specs import float_arrays

MAX_SHRINKING = 200
"""Maximum number of examples tried after the first counterexample, to shrink it."""

SHRINKINGS = 3
"""Number of counterexamples that are shrunk; the process can end before the smallest one."""


class _Counterexample(Exception):
    """Raised for an example that fails, so that Hypothesis shrinks it."""


def smallest_counterexample(
    make: Callable[[Source], Any],
    check: Callable[[Any], str | None],
    *,
    examples: int,
    seed: int,
) -> tuple[Any, str] | None:
    """Return the simplest example that fails a check, and the error; None if none fails.

    NumPy draws the examples, so the verdict does not depend on what is installed. Where one fails,
    Hypothesis searches for a simpler one, if it is installed.

    Args:
        make: Function that draws an example from a source.
        check: Function of an example that returns None or an error message. It must depend on the
            example only.
        examples: Number of examples tried.
        seed: Seed of the search.
    """
    found = _fewest_numbers(make, check, examples=examples, seed=seed)
    if found is None or importlib.util.find_spec("hypothesis") is None:
        return found
    shrunk = [
        _shrunk(make, check, examples=examples, seed=seed + number) for number in range(SHRINKINGS)
    ]
    return min((one for one in shrunk if one), key=_size, default=found)


def _fewest_numbers(
    make: Callable[[Source], Any],
    check: Callable[[Any], str | None],
    *,
    examples: int,
    seed: int,
) -> tuple[Any, str] | None:
    """Return the failing example with the fewest numbers, and its error."""
    failing = []
    for number in range(examples):
        drawn = make(VariedSource(np.random.default_rng([seed, number])))
        error = check(drawn)
        if error is not None:
            failing.append((drawn, error))
    if not failing:
        return None
    drawn, error = min(failing, key=_size)
    return drawn, error if check(drawn) else f"not on every call: {error}"


def _shrunk(
    make: Callable[[Source], Any],
    check: Callable[[Any], str | None],
    *,
    examples: int,
    seed: int,
) -> tuple[Any, str] | None:
    """Return an example that Hypothesis has shrunk, and its error; None if it finds none."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, strategies

    found: list[tuple[Any, str]] = []
    errors: dict[bytes, str] = {}
    shrunk = 0

    def property_(data: Any) -> None:
        nonlocal shrunk
        drawn = make(HypothesisSource(data))
        key = _fingerprint(drawn)
        error = errors.get(key)
        if error is None:
            shrunk += bool(found)
            if shrunk > MAX_SHRINKING:
                return  # from here on, only examples known to fail do
            error = check(drawn)
        if error is not None:
            errors[key] = error
            found.append((drawn, error))
            raise _Counterexample(error)

    test = hypothesis.given(strategies.data())(property_)
    test = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        verbosity=hypothesis.Verbosity.quiet,
    )(test)
    try:
        hypothesis.seed(seed)(test)()
    except _Counterexample:
        return found[-1]  # Hypothesis runs the simplest example last
    except hypothesis.errors.Flaky:
        return found[-1][0], f"not on every call: {found[-1][1]}"
    return None


def _size(failing: tuple[Any, str]) -> int:
    """Return a number that grows with the numbers of a failing example."""
    return len(_fingerprint(failing[0]))


def _fingerprint(drawn: Any) -> bytes:
    parts = [
        repr(_structure(drawn.spec)).encode(),
        repr(drawn.x.shape).encode(),
        drawn.x.tobytes(),
    ]
    for path, array in float_arrays(drawn.spec).items():
        parts += [path.encode(), repr(array.shape).encode(), array.tobytes()]
    return b"|".join(parts)


def _structure(value: Any) -> Any:
    """Return the classes, numbers and integer arrays of a specification."""
    if isinstance(value, np.ndarray):
        return None if np.issubdtype(value.dtype, np.floating) else value.tolist()
    if isinstance(value, (tuple, list)):
        return [_structure(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return [type(value).__name__, *(_structure(getattr(value, f)) for f in vars(value))]
    return repr(value)
