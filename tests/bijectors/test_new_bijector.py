"""A new bijector takes one file in each tree and one case: the example of docs/extending.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("reference", "flowpp", "conformance", "tests")
REFERENCE = """
import math
from dataclasses import dataclass

from reference.bijectors.bijector import Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class Scale(Bijector):
    factor: float

    def forward(self, x, context=None):
        return x * self.factor, no_log_det(x) + math.prod(x.shape[1:]) * math.log(self.factor)

    def inverse(self, y, context=None):
        return y / self.factor, no_log_det(y) - math.prod(y.shape[1:]) * math.log(self.factor)
"""
FLOWPP = """
import math

from .bijector import Bijector
from .log_dets import no_log_det


class Scale(Bijector):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, context=None):
        return x * self.factor, no_log_det(x) + math.prod(x.shape[1:]) * math.log(self.factor)

    def inverse(self, y, context=None):
        return y / self.factor, no_log_det(y) - math.prod(y.shape[1:]) * math.log(self.factor)
"""
CASE = """\
    Case("scale/three", lambda rng: Scale(3.0), normal(*SHAPE), magnitudes(*SHAPE, largest=1e4)),
"""
IMPORTS = "from reference.bijectors import ActNorm, Affine, DataLogit, MixtureLogistic, Sigmoid"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the new bijector."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for tree in TREES:
        shutil.copytree(ROOT / tree, copy / tree, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "reference/bijectors/scale.py").write_text(REFERENCE)
    (copy / "flowpp/bijectors/scale.py").write_text(FLOWPP)
    cases = copy / "conformance/cases/elementwise.py"
    text = cases.read_text()
    assert IMPORTS in text and text.endswith("\n)\n")
    text = text.replace(IMPORTS, IMPORTS + ", Scale").removesuffix(")\n") + CASE + ")\n"
    cases.write_text(text)
    return copy


def run_in(copy: Path, *arguments: str) -> str:
    """Run a Python module in the copy, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_law_holds(copy):
    output = run_in(copy, "conformance", "--bijectors", "Scale", "--jobs", "1")
    assert "scale/three" in output and "scale/random" in output and " 0 fails" in output


def test_the_tests_of_every_bijector_include_it(copy):
    files = [
        "tests/test_tree.py",
        "tests/bijectors/test_bad_input.py",
        "tests/bijectors/test_permutations.py",
        "tests/conformance/test_search.py",
        "tests/mutation/test_cells.py",
        "tests/mutation/test_refusals.py",
        "tests/reference/test_bijectors.py",
    ]
    run_in(copy, "pytest", "-q", "-p", "no:cacheprovider", "-k", "scale or every_", *files)


def test_types_are_checked_without_a_line_for_it(copy):
    pytest.importorskip("mypy")
    run_in(copy, "mypy", "conformance/cases", "reference/bijectors")
