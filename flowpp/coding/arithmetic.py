"""Identity of a model and of the arithmetic that computes it.

Both sides compute means and scales to the last bit alike, or the bits mean nothing. Another
processor, version of torch or number of threads may add in another order.
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch

from flowpp.model import FlowPlusPlus
from flowpp.runtime.hashing import weights_hash

PROBES = 2


def exact(model: FlowPlusPlus) -> FlowPlusPlus:
    """Return a copy of a model in float64 on the CPU, in evaluation mode, as `Coder` needs it.

    Raises:
        ValueError: a conditional model.
    """
    if getattr(model, "context_encoder", None) is not None:
        raise ValueError("compression needs a model without contexts, got a conditional one")
    return copy.deepcopy(model).cpu().double().eval()


def model_hash(model: FlowPlusPlus, settings: Any) -> str:
    """Return the hash of a model's settings, which are plain values, and of its weights."""
    text = json.dumps(settings, sort_keys=True)
    weights = weights_hash(model.state_dict())
    return hashlib.sha256(f"{text} {weights}".encode()).hexdigest()


@torch.no_grad()
def arithmetic_hash(model: FlowPlusPlus, shape: tuple[int, int, int]) -> str:
    """Return the hash of an `exact` model's results for fixed images, in both directions."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(model.levels, (PROBES, *shape), generator=generator)
    noise = model.draw_noise(x.shape, dtype=torch.float64, generator=generator)
    given, log_q = model.flow_input(x, noise)
    z, log_det = model.flow(given)
    back, inverse_log_det = model.flow.inverse(z)
    digest = hashlib.sha256()
    for values in (given, log_q, z, log_det, back, inverse_log_det):
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def machine() -> str:
    """Return versions and processor, for messages."""
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__}, constriction {version('constriction')}"
    return f"{versions}, {platform.machine()} with {capability}"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with this number of threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
