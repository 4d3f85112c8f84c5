"""Card, driver, versions, and torch's settings of float32."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from flowpp.benchmark.machine import cuda_device
from flowpp.kernels.backend import backend_for
from flowpp.runtime.machine import processor_name
from flowpp.runtime.precision import tf32_switches

from .request import Request

PACKAGES = (
    "flowpp", "torch", "triton", "cupy-cuda13x", "cupy-cuda12x", "numpy", "scipy", "safetensors",
    "tyro", "tensorboard", "rich", "matplotlib", "pillow", "scikit-learn", "mpmath", "jinja2",
    "pytest", "hypothesis",
)  # fmt: skip
QUERY = (
    "name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm,clocks.max.memory,"
    "power.limit,temperature.gpu,persistence_mode,mig.mode.current"
)
SHORT_QUERY = "name,driver_version,memory.total"


def measure(request: Request) -> dict[str, Any]:
    """Return what the results of the other stages depend on."""
    device = torch.device(request.device)
    cuda = device.type == "cuda"
    backends: Any = torch.backends  # its stubs lack most of the switches
    return {
        "device": str(device),
        "processor": processor_name(),
        **(cuda_device(device) if cuda else {}),
        "cards": torch.cuda.device_count(),
        "driver": _driver() if cuda else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "kernels": backend_for(torch.zeros(1, device=device)),
        "float32": {
            "matmul": backends.cuda.matmul.fp32_precision,
            "convolution": backends.cudnn.conv.fp32_precision,
            "tf32": tf32_switches(),
        },
    }


def _driver() -> dict[str, str] | str:
    """Return what nvidia-smi reports, or why it does not."""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not on PATH"
    output = ""
    for query in (QUERY, SHORT_QUERY):  # a driver may not know all of them
        asked = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
        output = (done.stdout or done.stderr).strip()
        if done.returncode == 0:
            values = [value.strip() for value in output.splitlines()[0].split(",")]
            return dict(zip(query.split(","), values, strict=True))
    return output


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
