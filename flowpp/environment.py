"""What a result depends on besides its settings: versions, device, precision switches, threads."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from flowpp.data import ImageSet

PACKAGES = ("flowpp", "torch", "numpy", "scipy", "scikit-learn", "safetensors")


def describe(device: torch.device, seed: int, images: ImageSet) -> dict[str, Any]:
    """Plain values for environment.json."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32": _tf32(device),
        "threads": torch.get_num_threads(),
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


def processor() -> str:
    """The model's name where Linux tells it; `platform` knows the architecture only."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line for line in file if line.startswith("model name")), None)
        return name.split(":", 1)[1].strip() if name else platform.machine()
    except OSError:
        return platform.machine()
