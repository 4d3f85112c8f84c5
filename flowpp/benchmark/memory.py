"""Peak resident memory of one task, in a process of its own.

    python -m flowpp.benchmark.memory '{"task": "train", "version": "library", ...}'

A process's peak never falls, and what one task leaves in the allocator's hands the next one uses:
only a fresh process tells what a task needs by itself. Interpreter and libraries are part of it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict

import torch

from .tasks import Sizes, functions

CALLS = 2
"""The second call meets optimizer state and gradients that the first one made."""


def peak_in_fresh_process(task: str, version: str, sizes: Sizes) -> int:
    """Bytes.

    Raises:
        RuntimeError: the process failed; the message holds the end of what it printed.
    """
    request = {
        "task": task,
        "version": version,
        "sizes": asdict(sizes),
        "threads": torch.get_num_threads(),
    }
    command = [sys.executable, "-m", "flowpp.benchmark.memory", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {task} failed: {done.stderr[-500:]}")
    return int(done.stdout)


def main(argument: str) -> None:
    """Run what the JSON argument asks for, and print this process's peak in bytes."""
    request = json.loads(argument)
    torch.set_num_threads(request["threads"])
    sizes = Sizes(**request["sizes"])
    version = request["version"]
    function = functions(request["task"], sizes, (version,))[version]
    for _ in range(CALLS):
        function()
    print(peak_resident_bytes())


def peak_resident_bytes() -> int:
    """Of this process's own memory so far."""
    try:
        # Not getrusage: there Linux counts what the parent held when it started this process.
        with open("/proc/self/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
