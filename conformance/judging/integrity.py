"""A check that an adapter leaves the suite, the reference and NumPy as they are.

An implementation that replaced them, by mistake or to make up for a missing feature, would be
judged by something else. Additions are allowed; an adapter may also import the reference.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from conformance.cases import CASES
from conformance.laws import LAWS

Snapshot = Sequence[tuple[str, Mapping[str, Any], str, Any]]
"""Names for messages, each with a namespace, a key and the value that it had there."""

PACKAGES = ("conformance", "reference")
NUMPY = ("numpy", "numpy.linalg")
IMPLEMENTATIONS = "conformance.adapters"
BUILTINS = ("abs", "all", "any", "float", "int", "len", "max", "min", "range", "sum", "zip")
MAX_NAMES = 5


def snapshot() -> Snapshot:
    """Return the present functions and classes of the suite, the reference and NumPy."""
    return list(_entries())


def changes(before: Snapshot) -> list[str]:
    """Return the names in `before` that are gone or have another value."""
    return [name for name, space, key, value in before if space.get(key) is not value]


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
