"""Plain nested dictionaries to settings dataclasses, every value's type looked at."""

from __future__ import annotations

import dataclasses
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

MOST_INTEGER = 1 << 1000
"""Above it an integer is no float."""


def build(cls: Any, values: Any, path: str = "") -> Any:
    """An instance of the dataclass `cls`; fields that are missing keep their defaults.

    Args:
        cls: a dataclass whose fields are numbers, strings, booleans, `Literal` words, None, and
            further such dataclasses.
        values: field names to values, as JSON has them.
        path: where in the whole these values lie, for errors: "model.flow".

    Raises:
        ValueError: an unknown field, a value of another type than the field's, or one that the
            dataclass refuses; the message begins with the field's path.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{path or cls.__name__} must hold named values, got {values!r}")
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    surplus = sorted(set(values) - set(known))
    if surplus:
        where = f"{path}: " if path else ""
        raise ValueError(
            f"{where}{cls.__name__} has no field {surplus}; its fields are {sorted(known)}"
        )
    converted = {
        name: _value(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in values.items()
    }
    try:
        return cls(**converted)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, path)
    if not any(_fits(value, kind) for kind in _alternatives(hint)):
        needed = " or ".join(_name(kind) for kind in _alternatives(hint))
        raise ValueError(f"{path} must be {needed}, got {value!r}")
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """`int | None` -> (int, NoneType); anything else alone."""
    if get_origin(hint) is Literal or not get_args(hint):
        return (hint,)
    return get_args(hint)


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return type(value) in (str, int) and value in get_args(kind)
    if isinstance(value, bool):  # to Python, True is an int
        return kind is bool
    if kind is float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < MOST_INTEGER)
    return isinstance(value, kind)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return "None" if kind is NoneType else kind.__name__
