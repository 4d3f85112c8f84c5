"""A check that an adapter leaves the suite, the reference and NumPy as they are.

An implementation that replaced them, by mistake or to make up for a missing feature, would be
judged by something else. Additions are allowed; an adapter may also import the reference.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import is_, itemgetter
from types import ModuleType
from typing import Any, NamedTuple

from conformance.cases import CASES
from conformance.laws import LAWS

Entry = tuple[str, Mapping[str, Any], str, Any]
"""A name for messages, with a namespace, a key and the value that it had there."""


Space = tuple[Mapping[str, Any], Callable, Sequence[Any]]
"""A namespace, a function that gets some of its values, and the values that it had."""


class Snapshot(NamedTuple):
    """The values of names, by namespace: a check after every cell must be fast.

    Attributes:
        entries: Every name with its value.
        spaces: The same by namespace.
    """

    entries: Sequence[Entry]
    spaces: Sequence[Space]


PACKAGES = ("conformance", "reference")
NUMPY = ("numpy", "numpy.linalg")
IMPLEMENTATIONS = "conformance.adapters"
BUILTINS = ("abs", "all", "any", "float", "int", "len", "max", "min", "range", "sum", "zip")
MAX_NAMES = 5


def snapshot() -> Snapshot:
    """Return the present functions and classes of the suite, the reference and NumPy."""
    entries = list(_entries())
    spaces: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    for _, space, key, value in entries:
        spaces.setdefault(id(space), (space, {}))[1][key] = value
    return Snapshot(entries, [_with_values(*space) for space in spaces.values()])


def _with_values(space: Mapping[str, Any], values: dict[str, Any]) -> Space:
    # Of one key, an itemgetter would not return a tuple: the first stands there twice.
    keys = [*values, next(iter(values))]
    return space, itemgetter(*keys), [values[key] for key in keys]


def changes(before: Snapshot) -> list[str]:
    """Return the names in `before` that are gone or have another value."""
    if all(_same(*space) for space in before.spaces):
        return []
    return [name for name, space, key, value in before.entries if space.get(key) is not value]


def _same(space: Mapping[str, Any], values_of: Callable, values: Sequence[Any]) -> bool:
    try:
        return all(map(is_, values_of(space), values))
    except KeyError:
        return False


def message(names: list[str]) -> str:
    """Return the message for names that an adapter has replaced."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"the adapter must not replace {', '.join(names[:MAX_NAMES])}{more}, which judge it"


def _entries() -> Iterator[tuple[str, Mapping[str, Any], str, Any]]:
    for key in BUILTINS:
        yield key, vars(builtins), key, vars(builtins)[key]
    for name, module in list(sys.modules.items()):
        package, _, _ = name.partition(".")
        mine = package in PACKAGES and not name.startswith(IMPLEMENTATIONS)
        if module is not None and (mine or name in NUMPY):
            yield from _members(name, module)
    for table, named in (("conformance.laws.LAWS", LAWS), ("conformance.cases.CASES", CASES)):
        for key, value in named.items():
            yield f"{table}[{key!r}]", named, key, value
    for key, law in LAWS.items():
        yield from _fields(f"conformance.laws.LAWS[{key!r}]", vars(law))


def _members(name: str, module: ModuleType) -> Iterator[tuple[str, Mapping[str, Any], str, Any]]:
    for key, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            yield from _fields(f"{name}.{key}", vars(value))
        if callable(value) or key in ("LAWS", "CASES"):
            yield f"{name}.{key}", vars(module), key, value


def _fields(
    name: str, space: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any], str, Any]]:
    for key, value in list(space.items()):
        yield f"{name}.{key}", space, key, value
