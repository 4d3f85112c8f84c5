"""The border between a law and the implementation: whose exception an exception is.

An exception that the implementation raises is its failure. One that is raised in a law's own code,
or in the reference, is an error of the suite, and says nothing about the implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.numerics.compare import WrongShape

MARK = "_raised_by_the_implementation"


class Violation(AssertionError):
    """Raised for a violation that cannot be measured in ulps; the message says which."""


@dataclass(frozen=True)
class Call:
    """A call of the implementation: the method, and its arrays by name."""

    method: str
    inputs: dict[str, np.ndarray]

    def __str__(self) -> str:
        name, array = next(iter(self.inputs.items()))
        if not array.ndim:
            return f"{self.method} of {name} = {array}"
        examples = "1 example" if len(array) == 1 else f"{len(array)} examples"
        return f"{self.method} of a batch of {examples}, {name} {array.shape}"


def call_at(direction: str, at: np.ndarray, context: np.ndarray | None) -> Call:
    """Return the call of one direction at an input, named x or y."""
    inputs = {"x" if direction == "forward" else "y": at}
    return Call(direction, inputs if context is None else inputs | {"context": context})


@contextmanager
def implementation(call: Call | None = None) -> Iterator[None]:
    """Mark any exception raised in the body as the implementation's, in a call if one is given."""
    try:
        yield
    except BaseException as error:
        setattr(error, MARK, call or call_of(error))
        raise


def call_of(error: BaseException | None) -> Call | None:
    """Return the call that raised an exception, if it is known."""
    return getattr(error, MARK, None)


def with_call(error: BaseException) -> str:
    """Return an exception's type and message, after the call that raised it."""
    call = call_of(error)
    where = f"{call}: " if call else ""
    return f"{where}{type(error).__name__}: {error}"


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


def checked_pair(
    result: Any, direction: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of a direction as an array of `shape`, and a log_det of `shape[:1]`.

    Raises:
        Violation: It is something else.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        raise Violation(f"{direction} returned {type(result).__name__}, not (array, log_det)")
    output, log_det = real_array(result[0], direction), real_array(result[1], "log_det")
    require_shape(log_det, shape[:1], f"log_det of {direction}")
    require_shape(output, shape, direction if shape[0] else f"{direction} of an empty batch")
    return output, log_det
