"""The README's first command reaches the bits per dimension that the README reports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

EXPECTED = 1.8504
TOLERANCE = 0.02
"""About 1 %: processors differ in rounding, and a regression of 2 % must fail."""


@pytest.mark.slow
def test_digits_reach_their_bits_per_dim(tmp_path):
    out = tmp_path / "digits"
    done = subprocess.run(
        [sys.executable, "-m", "flowpp.train", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert result["bits_per_dim"] == pytest.approx(EXPECTED, abs=TOLERANCE)
    assert result["bits_per_dim"] < result["histogram"] < result["uniform"]
    assert f"one-sample bound           {result['bits_per_dim']:.4f}" in done.stdout
