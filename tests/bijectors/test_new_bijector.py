"""A new bijector takes one file in each tree and one case: the example of docs/extending.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = """
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Bijector


@dataclass(frozen=True, eq=False)
class Scale(Bijector):
    factor: float

    def forward(self, x, context=None):
        return x * self.factor, np.full(len(x), x[0].size * np.log(self.factor))

    def inverse(self, y, context=None):
        return y / self.factor, np.full(len(y), -y[0].size * np.log(self.factor))
"""
FLOWPP = """
import math

from .bijector import Bijector


class Scale(Bijector):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, context=None):
        return x * self.factor, x.new_full((len(x),), x[0].numel() * math.log(self.factor))

    def inverse(self, y, context=None):
        return y / self.factor, y.new_full((len(y),), -y[0].numel() * math.log(self.factor))
"""
CASE = """
from reference.bijectors import Scale

CASES = (
    *CASES,
    Case("scale/three", lambda rng: Scale(3.0), normal(*SHAPE), magnitudes(*SHAPE, largest=1e4)),
)
"""


def test_two_files_and_one_case_are_enough(tmp_path):
    for tree in ("reference", "flowpp", "conformance"):
        shutil.copytree(
            ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "reference/bijectors/scale.py").write_text(REFERENCE)
    (tmp_path / "flowpp/bijectors/scale.py").write_text(FLOWPP)
    with (tmp_path / "conformance/cases/elementwise.py").open("a") as cases:
        cases.write(CASE)
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "--bijectors", "Scale", "--jobs", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scale/three" in done.stdout and " 0 fails" in done.stdout
