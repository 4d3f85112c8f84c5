"""Runs that are killed, run out of disk, start at once, or are long: nothing is lost."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowpp.training.loop import train
from flowpp.training.run_logger import RunLogger

HELPERS = Path(__file__).parents[1] / "helpers"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
]


def resident() -> int:
    """Return the resident memory of this process in bytes, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def last_line(script, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, str(HELPERS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=3600,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout.splitlines()[-1]


def test_sixty_kills(tmp_path):
    """Also while a run is created, a checkpoint is written, and the kernels are compiled."""
    assert "60 kills, all bit-equal" in last_line("killed_run.py", tmp_path, 60, 1)


def test_three_runs_at_once_fifty_times(tmp_path):
    assert last_line("three_at_once.py", tmp_path, 50) == "three runs at once, 50 times"


@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")
def test_a_full_disk_at_ten_moments(tmp_path):
    compiler, library = shutil.which("cc"), tmp_path / "full_disk.so"
    if compiler is None:
        pytest.skip("needs a C compiler")
    source = str(HELPERS / "full_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    (tmp_path / "runs").mkdir()
    line = last_line("full_disk.py", tmp_path / "runs", 10, LD_PRELOAD=str(library))
    assert line == "10 full disks, all bit-equal"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
def test_memory_is_flat_over_five_thousand_steps(tiny_config, tmp_path, monkeypatch):
    """Evaluations and checkpoints occur between the two measurements."""
    seen = {}
    write = RunLogger.log_training

    def measured(self, record):
        write(self, record)
        seen[record["step"]] = resident()

    monkeypatch.setattr(RunLogger, "log_training", measured)
    settings = dataclasses.replace(
        tiny_config.training, steps=5000, evaluate_every=250, log_every=250
    )
    train(dataclasses.replace(tiny_config, training=settings), tmp_path / "run")
    assert seen[5000] <= 1.02 * seen[500], {k: v >> 20 for k, v in seen.items()}
