"""Mistakes that people make in flows, each a small patch of flowpp, and where the suite sees it.

A patch replaces an attribute that has to exist: when flowpp is rewritten and it does not, the
patch fails instead of silently testing nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A seeded bug: its patch, and the cases and laws of which at least one has to fail.

    `alone` is the one law that sees it, of all laws on these cases, if there is only one.
    `without` says for which dtype it is no bug, or none that could be seen, and why.
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
    """Enter a patch in the catalogue under its own name; cases and laws between spaces.

    `alone`: the one law, of all, that sees it.
    """

    def enter(patch: Patch) -> Patch:
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
