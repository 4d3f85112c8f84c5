"""A long run needs no more memory than a short one."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from flowpp.training.loop import train
from flowpp.training.run_logger import RunLogger


def resident() -> int:
    """Bytes of this process in memory, as Linux counts them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts memory as Linux does")
def test_memory_is_flat_over_two_thousand_steps(tiny_config, tmp_path, monkeypatch):
    """Evaluations and checkpoints lie between the two moments."""
    seen = {}
    write = RunLogger.log_steps

    def noting(self, record):
        write(self, record)
        seen[record["step"]] = resident()

    monkeypatch.setattr(RunLogger, "log_steps", noting)
    settings = dataclasses.replace(
        tiny_config.training, steps=2000, evaluate_every=100, log_every=100
    )
    train(dataclasses.replace(tiny_config, training=settings), tmp_path / "run")
    assert seen[2000] <= 1.02 * seen[200], {k: v >> 20 for k, v in seen.items()}
