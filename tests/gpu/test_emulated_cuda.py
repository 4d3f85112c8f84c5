"""The tests of this folder on an emulated CUDA device.

They run in a process of their own, which the device stays in. The device has the CPU's numbers, so
this finds tensors, constants and random numbers on the wrong device, and code for CUDA that does
not run, without a GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here"),
    pytest.mark.skipif(
        torch.version.cuda is not None,
        reason="torch's CUDA build asks cuDNN about attention, which fails without a device",
    ),
    pytest.mark.skipif(
        not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")),
        reason="no C++ compiler here",
    ),
]

FOLDER = Path(__file__).parent


def run_on_emulated(*arguments):
    """Run pytest with the emulated device; return the number of tests that passed."""
    command = [sys.executable, "-m", "pytest", "--emulate-cuda", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert "failed" not in done.stdout
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def test_on_the_emulated_device():
    files = (
        "test_captured_step.py", "test_device_rules.py", "test_layers.py", "test_runs.py",
        "test_late_reads.py",
    )  # fmt: skip
    assert run_on_emulated("-m", "gpu and not slow", *(str(FOLDER / f) for f in files)) >= 69


@pytest.mark.slow
def test_the_whole_folder_on_the_emulated_device():
    assert run_on_emulated("-m", "gpu and not slow", str(FOLDER)) >= 150
