"""Working memory of the CPU kernels: bounded, and an error where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import little_memory
import pytest

from flowpp.kernels.cpu import build

pytestmark = [
    pytest.mark.skipif(not build.is_available("layers.cpp"), reason="no C++ compiler here"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux counts it"),
]


def test_kernels_without_memory_raise_and_large_images_need_little():
    """An exception inside of a team of threads would end the process."""
    done = subprocess.run(
        [sys.executable, little_memory.__file__],
        capture_output=True, text=True, check=False, timeout=120,
        cwd=Path(build.__file__).parents[3],
    )  # fmt: skip
    lines = done.stdout.splitlines()
    expected = len(little_memory.CALLS)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in lines[:expected]] == list(little_memory.CALLS)
    for line in lines[:expected]:
        assert "MemoryError: " in line and "use a smaller batch or smaller images" in line, line
    assert lines[expected:] == [
        "winograd of a large image returned", "winograd_gradient of a large image returned",
    ]  # fmt: skip
