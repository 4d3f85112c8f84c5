"""Mistakes that people make in flows, each a small patch of flowpp, and where the suite sees it.

A patch replaces an attribute that has to exist: when flowpp is rewritten and it does not, the
patch fails instead of silently testing nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A seeded bug: its patch, and the cases and laws of which at least one has to fail."""

    name: str
    patch: Patch
    cases: tuple[str, ...]
    laws: tuple[str, ...]


BUGS: dict[str, Bug] = {}


def bug(cases: str, laws: str) -> Callable[[Patch], Patch]:
    """Enter a patch in the catalogue under its own name; cases and laws between spaces."""

    def enter(patch: Patch) -> Patch:
        if patch.__name__ in BUGS:
            raise ValueError(f"two bugs are named {patch.__name__}")
        BUGS[patch.__name__] = Bug(
            patch.__name__, patch, tuple(cases.split()), tuple(laws.split())
        )
        return patch

    return enter


def wrap(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, around: Callable) -> None:
    """Replace `owner.name` by a function that calls `around(original, *arguments)`."""
    original = getattr(owner, name)

    def replaced(*arguments, **options):
        return around(original, *arguments, **options)

    monkeypatch.setattr(owner, name, replaced)


def negated(original: Callable, self: object, x: object, context: object = None):
    """Around a direction of a bijector: its log_det with the other sign."""
    y, log_det = original(self, x, context)
    return y, -log_det
