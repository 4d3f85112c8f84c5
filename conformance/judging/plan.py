"""The plan of a run: which cases are judged under which laws at which dtypes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence

from conformance.adapter import DTYPES
from conformance.cases import CASES, Case, LayerCase, RandomCase
from conformance.laws import LAWS, Law

AnyCase = Case | LayerCase | RandomCase
Planned = tuple[AnyCase, Law, str]
Plan = Sequence[Planned]


def plan(
    cases: Iterable[str] = ("*",),
    laws: Iterable[str] = ("*",),
    dtypes: Iterable[str] = DTYPES,
    bijectors: Iterable[str] = ("*",),
) -> Iterator[tuple[AnyCase, Law, str]]:
    """What names or patterns (`coupling/*`) select, a case at a time.

    Args:
        cases: names or patterns.
        laws: likewise.
        dtypes: likewise.
        bijectors: class names or patterns, `Coupling` or `coupling`: cases that begin so.

    Raises:
        ValueError: a name or pattern that selects nothing; the message lists the known names.
    """
    chosen_laws = [LAWS[name] for name in select(laws, list(LAWS), "law")]
    begun = list(dict.fromkeys(name.split("/")[0] for name in CASES))
    kinds = select([_snake(name) for name in bijectors], begun, "bijector")
    chosen_cases = [
        CASES[name] for name in select(cases, list(CASES), "case") if name.split("/")[0] in kinds
    ]
    chosen_dtypes = select(dtypes, list(DTYPES), "dtype")
    return (
        (case, law, dtype)
        for case in chosen_cases
        for dtype in chosen_dtypes
        for law in chosen_laws
        if law.applies(case)
    )


def cells_by_name(names: Iterable[Iterable[str]]) -> Iterator[tuple[AnyCase, Law, str]]:
    """A plan from the names of its cells: (case, law, dtype) each."""
    for case, law, dtype in names:
        yield CASES[case], LAWS[law], dtype


def select(patterns: Iterable[str], known: list[str], kind: str) -> list[str]:
    """The known names that match any of the patterns, in the known order.

    Raises:
        ValueError: a pattern that matches none.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no {kind} {pattern!r}; known are: {', '.join(known)}")
    return [name for name in known if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _snake(name: str) -> str:
    """InvertibleConvLU -> invertible_conv_lu; what has no capitals stays."""
    parts = [
        ("_" if i and c.isupper() and not name[i - 1].isupper() else "") + c.lower()
        for i, c in enumerate(name)
    ]
    return "".join(parts)
