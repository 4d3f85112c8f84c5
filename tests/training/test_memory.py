"""Memory use does not grow with the length of a run."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from flowpp.training.loop import train
from flowpp.training.run_logger import RunLogger


def resident() -> int:
    """Return the resident memory of this process in bytes, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
def test_memory_is_flat_over_two_thousand_steps(tiny_config, tmp_path, monkeypatch):
    """Evaluations and checkpoints occur between the two measurements."""
    seen = {}
    write = RunLogger.log_training

    def measured(self, record):
        write(self, record)
        seen[record["step"]] = resident()

    monkeypatch.setattr(RunLogger, "log_training", measured)
    settings = dataclasses.replace(
        tiny_config.training, steps=2000, evaluate_every=100, log_every=100
    )
    train(dataclasses.replace(tiny_config, training=settings), tmp_path / "run")
    assert seen[2000] <= 1.02 * seen[200], {k: v >> 20 for k, v in seen.items()}
