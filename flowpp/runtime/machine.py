"""Processor and memory of this machine, as Linux reports them in /proc."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")


def processor_name() -> str:
    """Return the processor's model name, or the architecture where there is no model name."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def processor_key() -> bytes:
    """Return what `-march=native` depends on: model name and instruction set flags.

    Machines with different processors may share a cache of compiled code; this tells them apart.
    """
    lines = _cpuinfo()
    if not lines:
        return platform.processor().encode()
    fields = ("flags", "Features", "model name")
    return "\n".join(sorted({line for line in lines if line.startswith(fields)})).encode()


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping; None where they are unknown."""
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration, ValueError):
        return None


def _cpuinfo() -> list[str]:
    try:
        return CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
