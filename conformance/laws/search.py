"""A search for a counterexample by Hypothesis, shrunk, and within a bounded time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases.source import HypothesisSource, Source
from conformance.laws.trial import LeftOut
from conformance.numerics.specs import float_arrays

SHRINKING = 200
"""Examples that may be tried after the first counterexample, to make it smaller."""


class Refuted(Exception):
    """Carries what a search has found."""


def smallest_counterexample(
    make: Callable[[Source], Any],
    judge: Callable[[Any], str | None],
    *,
    examples: int,
    seed: int,
) -> tuple[Any, str] | None:
    """The simplest drawn thing that `judge` objects to, and what it says; None if there is none.

    Args:
        make: draws from a source.
        judge: None, or what is wrong. It must not depend on anything but what was drawn.
        examples: how many are tried.
        seed: of the search.

    Raises:
        LeftOut: Hypothesis is not installed.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise LeftOut("the search for counterexamples needs the package hypothesis")
    import hypothesis
    from hypothesis import HealthCheck, Phase, strategies

    found: list[tuple[Any, str]] = []
    objections: dict[bytes, str] = {}
    tried_since = 0

    def property_(data: Any) -> None:
        nonlocal tried_since
        drawn = make(HypothesisSource(data))
        key = _fingerprint(drawn)
        objection = objections.get(key)
        if objection is None:
            tried_since += bool(found)
            if tried_since > SHRINKING:
                return  # enough: only what is known to be wrong still is
            objection = judge(drawn)
        if objection is not None:
            objections[key] = objection
            found.append((drawn, objection))
            raise Refuted(objection)

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
    except Refuted:
        return found[-1]  # the simplest is tried once more in the end
    except hypothesis.errors.Flaky:
        return found[-1][0], f"not always: {found[-1][1]}"
    return None


def _fingerprint(drawn: Any) -> bytes:
    parts = [repr(_shape_of(drawn.spec)).encode(), repr(drawn.x.shape).encode(), drawn.x.tobytes()]
    for path, array in float_arrays(drawn.spec).items():
        parts += [path.encode(), repr(array.shape).encode(), array.tobytes()]
    return b"|".join(parts)


def _shape_of(value: Any) -> Any:
    """Classes, numbers and integer arrays of a specification."""
    if isinstance(value, np.ndarray):
        return None if np.issubdtype(value.dtype, np.floating) else value.tolist()
    if isinstance(value, (tuple, list)):
        return [_shape_of(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return [type(value).__name__, *(_shape_of(getattr(value, f)) for f in vars(value))]
    return repr(value)
