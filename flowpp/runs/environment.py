"""What a result depends on besides its settings: versions, device, precision switches, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from flowpp.data import ImageSet
from flowpp.kernels.backend import backend_for
from flowpp.runtime.machine import processor_name

PACKAGES = ("flowpp", "torch", "numpy", "scipy", "scikit-learn", "safetensors")


def describe(device: torch.device, seed: int, images: ImageSet) -> dict[str, Any]:
    """Plain values for environment.json.

    With config.json it is what a rerun needs: these versions on such a processor or GPU, so many
    threads and processes, the data with this hash, then `python -m flowpp.train` with the recorded
    arguments. On the CPU it ends with the same bits; on a GPU with `training.deterministic`.
    """
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32": _tf32(device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "kernels": backend_for(torch.empty(0, device=device)),
        "deterministic": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        },
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "arguments": sys.argv[1:],
        "seed": seed,
        "data": {
            "name": images.name,
            "sha256": images.sha256,
            "train": len(images.train),
            "held_out": len(images.test),
            "skipped": list(images.skipped),
        },
    }


def _tf32(device: torch.device) -> dict[str, bool] | str:
    """Whether matrix products and convolutions are rounded to TF32: a switch of CUDA's alone."""
    if device.type != "cuda":
        return "not applicable"
    return {
        "matmul": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "convolution": torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None
