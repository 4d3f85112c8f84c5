"""Cases by laws by dtypes: judging a cell, and going through all of them."""

from __future__ import annotations

import fnmatch
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .adapter import DTYPES, Adapter, NotSupported
from .cases import CASES, Case, LayerCase, allowed
from .laws import LAWS, Law
from .layer_trial import LayerTrial
from .trial import Broken, Inputs, Trial

INPUTS: tuple[Inputs, ...] = ("typical", "tails")
Status = Literal["holds", "fails", "left out"]


@dataclass(frozen=True)
class Cell:
    """One case under one law at one dtype.

    Attributes:
        case, law, dtype: which.
        status: "left out" where the law does not apply or the implementation does not support it.
        ulps: the worst error over typical and tail inputs; None if it has no size.
        allowed: the tolerance.
        message: where the worst error is, what broke, or why it was left out.
    """

    case: str
    law: str
    dtype: str
    status: Status
    ulps: float | None = None
    allowed: float | None = None
    message: str = ""


class Judge:
    """Judges cells for one adapter and seed; recent trials are kept, as laws share their work."""

    def __init__(self, adapter: type[Adapter], *, seed: int = 0, device: str = "cpu") -> None:
        self.adapter, self.seed, self.device = adapter, seed, device
        self._trials: OrderedDict[tuple, Trial | LayerTrial] = OrderedDict()

    def cell(self, case: Case | LayerCase, law: Law, dtype: str) -> Cell:
        """Try a law on both sets of inputs. Whatever the implementation raises fails the cell."""
        name = (case.name, law.name, dtype)
        if law.name in case.without:
            return Cell(*name, "left out", message=case.without[law.name])
        tolerance = allowed(case, law, dtype).ulps
        worst, message = 0.0, ""
        for inputs in INPUTS:
            try:
                for label, comparison in law.check(self._trial(case, dtype, inputs)):
                    if comparison.ulps > worst:
                        worst, message = comparison.ulps, f"{inputs}, {label}: {comparison}"
            except NotSupported as reason:
                return Cell(*name, "left out", message=str(reason))
            except Broken as broken:
                return Cell(*name, "fails", None, tolerance, f"{inputs}: {broken}")
            except Exception as error:  # an implementation may raise anything at all
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{where.filename}:{where.lineno}"
                text = f"{inputs}: {type(error).__name__}: {error} ({place})"
                return Cell(*name, "fails", None, tolerance, text)
        return Cell(*name, "holds" if worst <= tolerance else "fails", worst, tolerance, message)

    def _trial(self, case: Case | LayerCase, dtype: str, inputs: Inputs) -> Trial | LayerTrial:
        key = (case.name, dtype, inputs)
        if key not in self._trials:
            kind = Trial if case.family == "bijector" else LayerTrial
            self._trials[key] = kind(case, self.adapter, dtype, inputs, self.seed, self.device)
            while len(self._trials) > 8:
                self._trials.popitem(last=False)
        return self._trials[key]


def plan(
    cases: Iterable[str] = ("*",), laws: Iterable[str] = ("*",), dtypes: Iterable[str] = DTYPES
) -> Iterator[tuple[Case | LayerCase, Law, str]]:
    """What names or patterns (`coupling/*`) select, a case at a time.

    Raises:
        ValueError: a name or pattern that selects nothing; the message lists the known names.
    """
    chosen_laws = [LAWS[name] for name in select(laws, list(LAWS), "law")]
    chosen_cases = [CASES[name] for name in select(cases, list(CASES), "case")]
    chosen_dtypes = select(dtypes, list(DTYPES), "dtype")
    return (
        (case, law, dtype)
        for case in chosen_cases
        for dtype in chosen_dtypes
        for law in chosen_laws
        if law.family == case.family
    )


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
