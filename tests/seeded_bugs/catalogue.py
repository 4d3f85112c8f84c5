"""Typical bugs in flows, each a small patch of flowpp, with the cases and laws that detect it.

A patch replaces an attribute that must exist: if flowpp is rewritten and it does not, the patch
fails instead of silently testing nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A seeded bug: its patch, and the cases and laws of which at least one must fail.

    `alone` is the only law of all that detects it on these cases, if there is only one.
    `without` gives, by dtype, the reason why the bug cannot be detected there.
    """

    name: str
    patch: Patch
    cases: tuple[str, ...]
    laws: tuple[str, ...]
    alone: str | None = None
    without: Mapping[str, str] = field(default_factory=dict)


BUGS: dict[str, Bug] = {}


def bug(
    cases: str, laws: str, *, alone: str | None = None, without: Mapping[str, str] | None = None
) -> Callable[[Patch], Patch]:
    """Register a patch under its own name; `cases` and `laws` are separated by spaces."""

    def register(patch: Patch) -> Patch:
        if patch.__name__ in BUGS:
            raise ValueError(f"two bugs are named {patch.__name__}")
        BUGS[patch.__name__] = Bug(
            patch.__name__,
            patch,
            tuple(cases.split()),
            tuple(laws.split()),
            alone,
            without or {},
        )
        return patch

    return register


def wrap(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, around: Callable) -> None:
    """Replace `owner.name` by a function that calls `around(original, *arguments)`."""
    original = getattr(owner, name)

    def replaced(*arguments, **options):
        return around(original, *arguments, **options)

    monkeypatch.setattr(owner, name, replaced)


def negated(original: Callable, self: object, x: object, context: object = None):
    """Call a direction of a bijector and negate its log_det."""
    y, log_det = original(self, x, context)
    return y, -log_det


def with_parameters(module: Any, **parameters: Any) -> Any:
    """Return a copy of a torch module with other parameters, or submodules set to None.

    The module itself stays as it is: another thread may be calling it.
    """
    other = copy.copy(module)
    other._parameters = dict(module._parameters)
    other._modules = dict(module._modules)
    for name, value in parameters.items():
        (other._modules if value is None else other._parameters)[name] = value
    return other


def in_storage_order(x: Any) -> Any:
    """Return a tensor as if its memory were contiguous, unless it is smaller than the tensor."""
    _, c, h, w = x.shape
    if x.untyped_storage().nbytes() < x.numel() * x.element_size():
        return x
    return x.as_strided(x.shape, (c * h * w, h * w, w, 1))
