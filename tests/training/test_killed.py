"""A run killed at any moment, even while saving, resumes and ends with the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).parents[1] / "helpers" / "killed_run.py"


def kill(folder, kills, seed):
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), str(kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_three_kills(tmp_path):
    assert "3 kills, all bit-equal" in kill(tmp_path, 3, 0)
