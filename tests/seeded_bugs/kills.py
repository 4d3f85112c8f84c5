"""Matrix of the laws that detect each bug, over all laws on the bug's cases.

python -m seeded_bugs.kills    (in tests/)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from conformance.adapter import DTYPES
from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.laws import LAWS
from conformance.reports.result import FAILING
from flowpp.kernels.backend import use_backend

from . import (  # noqa: F401  (each registers its bugs)
    in_bijectors,
    in_caches,
    in_conditional,
    in_gradients,
    in_initialization,
    in_mixtures,
    in_models,
    in_networks,
    in_one_place,
    in_ports,
    in_special_inputs,
)
from .catalogue import BUGS, Bug


def detecting_laws(bug: Bug, dtype: str, cases: Iterable[str] | None = None) -> set[str]:
    """Return the laws that fail on a bug's cases, or on the given ones."""
    # The bugs are seeded in torch's formulas, which compiled kernels would bypass.
    with pytest.MonkeyPatch.context() as patch, use_backend("torch"):
        bug.patch(patch)
        judge = Judge(FlowppAdapter)
        cells = [judge.judge(*one) for one in plan(cases or bug.cases, ["*"], [dtype])]
    return {cell.law for cell in cells if cell.status in FAILING}


def table(kills: dict[tuple[str, str], set[str]]) -> str:
    """Return a line for each law: the number of bugs it detects, and those it detects alone."""
    lines = []
    for law in LAWS:
        seen = {name for (name, _), laws in kills.items() if law in laws}
        alone = sorted({name for (name, _), laws in kills.items() if laws == {law}})
        lines.append(f"{law:24} {len(seen):3}  {', '.join(alone) or '(none alone)'}")
    return "\n".join(lines)


if __name__ == "__main__":
    found = {}
    for one in BUGS.values():
        for kind in DTYPES:
            if kind not in one.without:
                found[one.name, kind] = detecting_laws(one, kind)
                laws = " ".join(sorted(found[one.name, kind])) or "NOTHING"
                print(f"{one.name:55} {kind} {laws}", file=sys.stderr, flush=True)
    print(table(found))
