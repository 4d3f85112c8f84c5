"""Reference objects as trees: their arrays by path, and copies with some of them changed.

A path is dotted, with numbers for places in a tuple: `bijectors.0.conditioner.proj_in.weight`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def is_object(value: Any) -> bool:
    """Return whether `value` is a reference object with fields (a dataclass instance)."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def objects(spec: Any) -> Iterator[Any]:
    """Yield every reference object in `spec`, itself first."""
    if is_object(spec):
        yield spec
        for field in dataclasses.fields(spec):
            yield from objects(getattr(spec, field.name))
    elif isinstance(spec, (tuple, list)):
        for item in spec:
            yield from objects(item)


def float_arrays(spec: Any) -> dict[str, np.ndarray]:
    """Return every array of real numbers in `spec`, by path: those that have gradients."""
    found: dict[str, np.ndarray] = {}

    def keep(path: str, array: np.ndarray) -> np.ndarray:
        if np.issubdtype(array.dtype, np.floating):
            found[path] = array
        return array

    map_arrays(spec, keep)
    return found


def map_arrays(spec: Any, change: Callable[[str, np.ndarray], np.ndarray], path: str = "") -> Any:
    """Return a copy of `spec` with every array replaced by `change(path, array)`."""
    if isinstance(spec, np.ndarray):
        return change(path, spec)
    if isinstance(spec, (tuple, list)):
        return tuple(map_arrays(v, change, _join(path, str(i))) for i, v in enumerate(spec))
    if is_object(spec):
        changes = {
            f.name: map_arrays(getattr(spec, f.name), change, _join(path, f.name))
            for f in dataclasses.fields(spec)
            if f.init
        }
        return dataclasses.replace(spec, **changes)
    return spec


def rounded(spec: Any, dtype: np.dtype | str) -> Any:
    """Return a copy of `spec` whose arrays are rounded to `dtype` and kept as float64.

    The reference then computes the truth for the parameters the implementation is given.
    """
    return map_arrays(spec, lambda path, array: round_to(array, dtype))


def own_copy(spec: Any, dtype: np.dtype | str) -> Any:
    """Return `rounded(spec, dtype)` with arrays that may be written to.

    The reference's are read-only, which torch warns about where it shares memory.
    """
    copy = map_arrays(spec, lambda path, array: round_to(np.array(array), dtype))

    def unlock(array: np.ndarray) -> None:
        array.flags.writeable = True

    _visit(copy, unlock)
    return copy


def _visit(spec: Any, function: Callable[[np.ndarray], None]) -> None:
    if isinstance(spec, np.ndarray):
        function(spec)
    elif isinstance(spec, (tuple, list)):
        for item in spec:
            _visit(item, function)
    elif is_object(spec):
        for field in dataclasses.fields(spec):
            _visit(getattr(spec, field.name), function)


def round_to(array: np.ndarray, dtype: np.dtype | str) -> np.ndarray:
    """Return `array` rounded to `dtype` and kept as float64; integer arrays are unchanged."""
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return array.astype(dtype).astype(np.float64)


def shifted(spec: Any, path: str, step: np.ndarray) -> Any:
    """Return a copy of `spec` with `step` added to the array at `path`."""
    return map_arrays(spec, lambda p, array: array + step if p == path else array)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the paths at which two reference objects differ in class, field or bits."""
    if type(one) is not type(other):
        return [f"{path or '.'}: {type(one).__name__} against {type(other).__name__}"]
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
        return [] if same else [f"{path}: arrays differ"]
    if isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return [f"{path}: {len(one)} items against {len(other)}"]
        return [
            line
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for line in differences(a, b, _join(path, str(i)))
        ]
    if is_object(one):
        return [
            line
            for f in dataclasses.fields(one)
            for line in differences(
                getattr(one, f.name), getattr(other, f.name), _join(path, f.name)
            )
        ]
    return [] if one == other else [f"{path}: {one!r} against {other!r}"]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
