"""Registers and spills of the CUDA kernels, as nvcc and NVRTC compile them for the card."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from flowpp.kernels.cuda import build

from .request import Request

DEFAULT_CAPABILITY = (9, 0)
"""Compiled for where there is no card: an H100's."""
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def measure(request: Request) -> dict[str, Any]:
    """Compile the kernels; a spill is a failure."""
    device = torch.device(request.device)
    cuda = device.type == "cuda"
    major, minor = torch.cuda.get_device_capability(device) if cuda else DEFAULT_CAPABILITY
    architecture = f"sm_{major}{minor}"
    kernels = parsed(nvcc(architecture))
    result: dict[str, Any] = {"architecture": architecture, "nvcc": kernels}
    spilling = [name for name, entry in kernels.items() if entry["spill_bytes"]]
    if cuda and build.cupy() is not None:
        result["nvrtc"] = nvrtc(device)
        spilling += [f"{n} (NVRTC)" for n, e in result["nvrtc"].items() if e["local_bytes"]]
    result["failures"] = [f"spills in {', '.join(spilling)}"] if spilling else []
    if missing := [name for name in build.KERNELS if name not in kernels]:
        result["failures"].append(f"nvcc has not named {', '.join(missing)}")
    return result


def nvcc(architecture: str) -> str:
    """Return what ptxas reports about the kernels.

    Raises:
        RuntimeError: They do not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["nvcc", f"-arch={architecture}", *build.OPTIONS, "-Xptxas", "-v", "-cubin"]
        command += ["-o", str(Path(folder) / "kernels.cubin"), str(build.SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvcc failed: {done.stderr[-2000:]}")
    return done.stderr


def parsed(report: str) -> dict[str, dict[str, int]]:
    """Return registers, stack and spills by kernel, from ptxas' report."""
    kernels: dict[str, dict[str, int]] = {}
    name = ""
    for line in report.splitlines():
        if match := ENTRY.search(line):
            name = match[1]
            kernels[name] = {"stack_bytes": 0, "spill_bytes": 0, "registers": 0}
        elif name and (match := SPILLS.search(line)):
            stack, stores, loads = map(int, match.groups())
            kernels[name] |= {"stack_bytes": stack, "spill_bytes": stores + loads}
        elif name and (match := REGISTERS.search(line)):
            kernels[name]["registers"] = int(match[1])
            kernels[name]["shared_bytes"] = int(match[2] or 0)
    return kernels


def nvrtc(device: torch.device) -> dict[str, dict[str, int]]:
    """Return registers and local memory by kernel, as the library's own compilation has them.

    Local memory holds what is spilled, and arrays whose index is not known before.
    """
    index = device.index if device.index is not None else torch.cuda.current_device()
    build.functions(index)  # compiles them
    with torch.cuda.device(index), build.compiled(index) as path:
        module = build.cupy().RawModule(path=str(path))
        kernels = {name: module.get_function(name) for name in build.KERNELS}
        return {
            name: {"registers": kernel.num_regs, "local_bytes": kernel.local_size_bytes}
            for name, kernel in kernels.items()
        }
