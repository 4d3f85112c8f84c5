"""The table of laws, its documentation, and the example of a law in `conformance.laws.law`."""

from __future__ import annotations

import re
import textwrap

import numpy as np

from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS, Law, law
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison
from documents import ROOT
from faulty import faulty_adapter


def test_the_documentation_lists_every_law():
    text = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    _, table = text.split("| laws | statement |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(LAWS), "docs/verification.md: the table under 'Cases and laws'"


def test_every_law_states_its_meaning():
    without = [one.name for one in LAWS.values() if not one.meaning]
    assert not without, f"a check's docstring must state its law, got none for {without}"


def test_the_example_of_a_law():
    lines = law.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    def "))
    names = {"Violation": Violation, "Comparison": Comparison, "np": np, "Trial": Trial}
    example = textwrap.dedent("\n".join(lines[start : lines.index("", start)]))
    exec("from __future__ import annotations\n" + example, names)
    finite = Law("finite", names["finite"], 0, 0)

    def overflows(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(y > 1.0, np.inf, y), log_det

    case = CASES["affine/shared"]
    result = Judge(faulty_adapter()).judge(case, finite, "float64")
    assert (result.status, result.ulps) == ("holds", 0.0) and result.compared
    result = Judge(faulty_adapter(forward=overflows)).judge(case, finite, "float64")
    assert (result.status, result.message.split(", ")[-1]) == (
        "fails",
        "y is not finite everywhere",
    )
