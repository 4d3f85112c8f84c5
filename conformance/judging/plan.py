"""The plan of a run: which cases are judged under which laws at which dtypes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence

from conformance.adapter import DTYPES
from conformance.cases import CASES, Case, LayerCase, RandomCase
from conformance.judging.arguments import nearest
from conformance.laws import LAWS, Law

AnyCase = Case | LayerCase | RandomCase
Planned = tuple[AnyCase, Law, str]
"""One cell: case, law, dtype."""
Plan = Sequence[Planned]


def plan(
    cases: Iterable[str] = ("*",),
    laws: Iterable[str] = ("*",),
    dtypes: Iterable[str] = DTYPES,
    bijectors: Iterable[str] = ("*",),
) -> Iterator[Planned]:
    """Yield the cells that names or patterns (`coupling/*`) select, case by case.

    Args:
        cases: Names or patterns of cases.
        laws: Names or patterns of laws.
        dtypes: Names or patterns of dtypes.
        bijectors: Class names or patterns, `Coupling` or `coupling`: cases with that first part.

    Raises:
        ValueError: A name or pattern selects nothing; the message lists the known names.
    """
    chosen_laws = [LAWS[name] for name in select(laws, list(LAWS), "law")]
    classes = list(dict.fromkeys(name.split("/")[0] for name in CASES))
    chosen_classes = select([_snake(name) for name in bijectors], classes, "bijector")
    chosen_cases = [
        CASES[name]
        for name in select(cases, list(CASES), "case")
        if name.split("/")[0] in chosen_classes
    ]
    chosen_dtypes = select(dtypes, list(DTYPES), "dtype")
    return (
        (case, law, dtype)
        for case in chosen_cases
        for dtype in chosen_dtypes
        for law in chosen_laws
        if law.applies(case)
    )


def select(patterns: Iterable[str], known: list[str], kind: str) -> list[str]:
    """Return the known names that match any of the patterns, in the known order.

    Raises:
        ValueError: A pattern matches none.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            hint = "" if kind == "dtype" else nearest(pattern, known)
            raise ValueError(f"no {kind} {pattern!r}{hint}; known are: {', '.join(known)}")
    return [name for name in known if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _snake(name: str) -> str:
    """Return a class name in snake case: InvertibleConvLU -> invertible_conv_lu."""
    parts = [
        ("_" if i and c.isupper() and not name[i - 1].isupper() else "") + c.lower()
        for i, c in enumerate(name)
    ]
    return "".join(parts)
