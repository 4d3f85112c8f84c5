"""`--list` describes what an adapter receives; runs leave nothing behind and name warnings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.__main__ import main

ROOT = Path(__file__).parents[2]
ADAPTER = """
import warnings
import numpy as np
from conformance.adapter import ReferenceAdapter

class Flip:
    def __init__(self, spec): self.inverse, self.spec = spec.inverse, spec
    def forward(self, x, context=None):
        warnings.warn("overflow", RuntimeWarning)
        y, log_det = self.spec.forward(x)
        return y + 1.0, log_det

class Adapter(ReferenceAdapter):
    def build(self, spec): return Flip(spec)
"""


def test_the_specifications_of_a_class_are_listed(capsys):
    assert main(["--list", "--bijectors", "InvertibleConv"]) == 0
    shown = capsys.readouterr().out
    assert "reference.bijectors.invertible_conv.InvertibleConv\n" in shown
    assert "    y[g, i] = sum_j W[g, i, j] x[g, j] at every position" in shown
    assert "case  invertible_conv/halves: x (3, 6, 2, 3) float64" in shown
    assert "      weight: (2, 3, 3) float64" in shown
    assert "case  invertible_conv/random: " in shown and "squeeze" not in shown


def test_every_case_can_be_listed(capsys):
    assert main(["--list", "--cases", "[!cfgi]*", "importance*"]) == 0
    assert "importance_weighted_bound" in capsys.readouterr().out


def test_an_unknown_class_is_refused_by_the_list(capsys):
    with pytest.raises(SystemExit):
        main(["--list", "--bijectors", "Squeze"])
    assert "did you mean squeeze?" in capsys.readouterr().err


def test_a_run_writes_nothing_and_names_the_cell_of_a_warning(tmp_path):
    (tmp_path / "mine.py").write_text(ADAPTER)
    command = "-m conformance --adapter mine:Adapter --cases flip/random --laws random_specs"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    found = subprocess.run(
        [sys.executable, "-B", *command.split(), "--dtype", "float64", "--in-process"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1 and "FAILS flip/random" in found.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["mine.py"]
    warning = f"RuntimeWarning: overflow ({tmp_path / 'mine.py'}:9), in flip/random"
    assert found.stderr.count(warning) == 1
