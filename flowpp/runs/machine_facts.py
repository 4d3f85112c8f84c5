"""Facts that the bits of a training step depend on, besides the state and the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from flowpp.config.settings import Precision
from flowpp.kernels.in_use import kernels_in_use
from flowpp.runtime.machine import processor_name
from flowpp.runtime.precision import precision_name

DESCRIPTIONS = {
    "processes": "the number of processes",
    "threads": "the number of threads",
    "torch": "the torch version",
    "cuda": "the CUDA version",
    "cudnn": "the cuDNN version",
    "device": "the kind of device",
    "processor": "the processor",
    "instructions": "the instruction set of torch's operations",
    "precision": "the precision",
    "kernels": "the backend of the kernels",
    "kernel_code": "the hash of the kernels' sources",
    "compiler": "the compiler of the kernels",
}
"""Descriptions of `machine_facts`."""


def machine_facts(
    device: torch.device, processes: int, precision: Precision = "float32"
) -> dict[str, Any]:
    """Return the facts that `DESCRIPTIONS` describes; None where one does not apply.

    Args:
        device: Device of the model.
        processes: Number of processes that train together.
        precision: Precision that the settings ask for.
    """
    cuda = device.type == "cuda"
    return {
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if cuda else processor_name(),
        "instructions": None if cuda else torch.backends.cpu.get_cpu_capability(),
        "precision": precision_name(precision, torch.float32, device),
        **kernels_in_use(device),
    }


def different_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a clause for each fact that differs.

    Facts that `before` lacks, being of an earlier version, are not compared, nor are those that
    apply to one of the two only: another fact says why.
    """
    return [
        f"{DESCRIPTIONS[name]} is {value} and was {_printable(before[name])}"
        for name, value in now.items()
        if before.get(name) is not None and value is not None and before[name] != value
    ]


def _printable(value: object) -> str:
    """Return a value that was read from a file as one line."""
    return re.sub(r"\s+", " ", str(value))[:200]
