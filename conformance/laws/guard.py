"""The border between a law and the implementation: whose exception an exception is.

An exception that the implementation raises is its failure. One that is raised in a law's own code,
or in the reference, is an error of the suite, and says nothing about the implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from conformance.numerics.compare import WrongShape

MARK = "_raised_by_the_implementation"


class Violation(AssertionError):
    """Raised for a violation that cannot be measured in ulps; the message says which."""


@contextmanager
def implementation() -> Iterator[None]:
    """Mark any exception raised in the body as the implementation's."""
    try:
        yield
    except BaseException as error:
        setattr(error, MARK, True)
        raise


def is_failure(error: BaseException) -> bool:
    """Return whether an exception is the implementation's failure, not an error of the suite."""
    return isinstance(error, (Violation, WrongShape)) or hasattr(error, MARK)


def guarded(function: Callable) -> Callable:
    """Return a function of the implementation whose exceptions are marked as its own."""

    def call(*arguments: Any, **options: Any) -> Any:
        with implementation():
            return function(*arguments, **options)

    return call


def real_array(value: Any, name: str) -> np.ndarray:
    """Return a result as an array of real numbers.

    Raises:
        Violation: It is none.
    """
    with implementation():
        array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise Violation(f"{name} must be an array of real numbers, got one of {array.dtype}")
    return array


def require_shape(array: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Require the shape of a result.

    Raises:
        Violation: It has another one.
    """
    if array.shape != shape:
        raise Violation(f"{name} has shape {array.shape}, not {shape}")
