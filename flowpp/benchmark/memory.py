"""Peak memory of one task, measured in a new process: resident, or of the CUDA device.

    python -m flowpp.benchmark.memory '{"task": "train", "version": "library", ...}'

In one process the peak never falls, and a task reuses memory that the allocator keeps from the one
before. The resident peak includes the interpreter and the libraries; that of a CUDA device is what
torch's tensors occupied.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import torch

from flowpp.config.build import float32_meaning
from flowpp.runtime.precision import float32_precision

from .tasks import Sizes, functions

CALLS = 2
"""In the second call the optimizer state and gradients of the first exist."""


def peak_in_fresh_process(task: str, version: str, sizes: Sizes) -> int:
    """Return the peak of a process that runs the task, in bytes.

    Raises:
        RuntimeError: The process failed; the message contains the end of its error output.
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
    """Run the task of the JSON argument, and print this process's peak in bytes."""
    request = json.loads(argument)
    torch.set_num_threads(request["threads"])
    sizes = Sizes(**request["sizes"])
    version = request["version"]
    device = torch.device(sizes.device)
    with float32_precision(float32_meaning(sizes.precision)):
        function = functions(request["task"], sizes, (version,))[version]
        for _ in range(CALLS):
            function()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated(device))
    else:
        print(peak_resident_bytes())


def peak_resident_bytes() -> int:
    """Return the peak of this process so far.

    Raises:
        ImportError: Not a POSIX system.
    """
    try:
        # Linux's getrusage includes memory of the parent from when it started this process.
        with open("/proc/self/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    except (OSError, StopIteration):
        import resource  # Windows lacks it

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
