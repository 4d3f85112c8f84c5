"""Reproducers in docs/findings.md run, and their assertions hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()
SECTIONS = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
REPRODUCERS = {
    title: block
    for title, section in SECTIONS
    for block in re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
}
LIBRARIES = ("zuko", "nflows", "normflows", "pyro", "flowjax", "distrax", "FrEIA")


def test_every_finding_has_a_reproducer():
    assert [title for title, _ in SECTIONS] == list(REPRODUCERS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", REPRODUCERS)
def test_a_finding_can_be_reproduced(title):
    code = REPRODUCERS[title]
    for library in LIBRARIES:
        if re.search(rf"\b(import|from) {library}\b", code):
            pytest.importorskip(library, reason=f"{library} is not installed: tox -e libraries")
    exec(compile(code, title, "exec"), {"__name__": title})
