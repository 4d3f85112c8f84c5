"""Detection of code that reseeds a global random generator, or depends on its state."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from conformance.laws.trial import Violation

SEEDS = (20260101, 7)


def check_generators(call: Callable[[], Any], name: str) -> list[Any]:
    """Return the results of a call after each of two seeds of the global generators.

    Raises:
        Violation: After the call a generator is in the same state, whatever its state before.
    """
    results, after = [], []
    with _kept_states():
        for seed in SEEDS:
            _seed(seed)
            results.append(call())
            after.append(_states())
    for library, state in after[0].items():
        if state == after[1].get(library):
            raise Violation(f"{name} reseeds the global random generator of {library}")
    return results


def seeded(seed: int, call: Callable[[], Any]) -> Any:
    """Return the result of a call after a seed of the global generators."""
    with _kept_states():
        _seed(seed)
        return call()


def _torch() -> Any:
    """Return torch, if the implementation has imported it."""
    return sys.modules.get("torch")


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if _torch():
        _torch().default_generator.manual_seed(seed)


def _states() -> dict[str, bytes]:
    states = {
        "Python": repr(random.getstate()).encode(),
        "NumPy": repr(np.random.get_state(legacy=False)["state"]["key"].tobytes()).encode()
        + str(np.random.get_state(legacy=False)["state"]["pos"]).encode(),
    }
    if _torch():
        states["torch"] = _torch().default_generator.get_state().numpy().tobytes()
    return states


@contextmanager
def _kept_states() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    torch = _torch().default_generator.get_state() if _torch() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            _torch().default_generator.set_state(torch)
