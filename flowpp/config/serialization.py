"""Conversion between settings dataclasses and plain nested dictionaries, with type checks."""

from __future__ import annotations

import dataclasses
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

LARGEST_INTEGER = 1 << 1000
"""Bound on integers accepted for float fields; larger ones overflow a float."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return a settings dataclass as a plain nested dictionary, ready for JSON."""
    return dataclasses.asdict(config)


def checked(config: Any) -> Any:
    """Return settings with Python's numbers for NumPy's, after a check of all types.

    Raises:
        ValueError: As `from_dict`.
    """
    return from_dict(type(config), _plain(to_dict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value


def from_dict(cls: Any, values: Any) -> Any:
    """Build a settings dataclass from a nested dictionary; inverse of `to_dict`.

    Args:
        cls: Dataclass whose fields are numbers, strings, booleans, `Literal` words, None, or
            further such dataclasses. A static method `migrate` may convert former fields first.
        values: Field names to values, as read from JSON. Missing fields keep their defaults.

    Raises:
        ValueError: Unknown field, value of another type than the field's, or value refused by
            the dataclass. The message begins with the field's path, such as model.flow.filters.
    """
    return _build(cls, values, path="")


def _build(cls: Any, values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{path or cls.__name__} must be a dictionary, got {values!r}")
    if hasattr(cls, "migrate"):
        values = cls.migrate(values)
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        where = f"{path}: " if path else ""
        raise ValueError(
            f"{where}{cls.__name__} has no field {unknown}; its fields are {sorted(known)}"
        )
    converted = {
        name: _convert(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in values.items()
    }
    try:
        return cls(**converted)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path)
    if not any(_matches(value, kind) for kind in _alternatives(hint)):
        expected = " or ".join(_name(kind) for kind in _alternatives(hint))
        raise ValueError(f"{path} must be {expected}, got {value!r}")
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Split a union into its members: `int | None` -> (int, NoneType)."""
    if get_origin(hint) is Literal or not get_args(hint):
        return (hint,)
    return get_args(hint)


def _matches(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return type(value) in (str, int) and value in get_args(kind)
    if isinstance(value, bool):  # bool is a subclass of int
        return kind is bool
    if kind is float:
        return isinstance(value, float) or (
            isinstance(value, int) and abs(value) < LARGEST_INTEGER
        )
    return isinstance(value, kind)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return "None" if kind is NoneType else kind.__name__
