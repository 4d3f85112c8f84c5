"""Looking into a model: what each layer contributes, and how well it can be inverted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.bijectors import Chain, FactorOut
from flowpp.dequantization import VariationalDequantizer
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.model import FlowPlusPlus

IMAGES = 32
"""Held-out images that are looked at: enough to see trouble, and cheap to invert."""


@dataclass
class Diagnosis:
    """Of one batch.

    Args:
        layers: log-determinants by layer, means over the batch in bits per dimension; these of
            the flow add up to its term of the bound, those of the dequantizer to its own.
        log_scales: smallest and largest log-scale of all logistic mixtures; None without any.
        round_trip: largest and median distance, over pixels, of an image from the inverse of
            its z, in grey levels; NaN where the inverse fails.
    """

    layers: dict[str, float] = field(default_factory=dict)
    log_scales: tuple[float, float] | None = None
    round_trip: tuple[float, float] = (math.nan, math.nan)


@torch.no_grad()
def diagnose(model: FlowPlusPlus, images: np.ndarray, generator: torch.Generator) -> Diagnosis:
    """Send a few images there and back.

    Args:
        model: it is put into evaluation mode.
        images: uint8 `(N, C, H, W)`; the first `IMAGES` are used.
        generator: of the dequantization noise.
    """
    model.eval()
    like = next(model.parameters())
    x = torch.from_numpy(images[:IMAGES]).to(like.device, like.dtype)
    noise = model.dequantizer.draw_noise(x.shape, dtype=like.dtype, generator=generator)
    found = Diagnosis()
    with _listening(model, found, bits=1 / (x[0].numel() * math.log(2))):
        u, _ = model.dequantizer.sample(x, noise.to(like.device))
        z, _ = model.flow(x + u)
    try:
        back, _ = model.flow.inverse(z)
    except (ValueError, RuntimeError):  # no root, or no finite matrix: what is to be seen here
        return found
    distance = (back - (x + u)).abs().double()
    found.round_trip = (distance.max().item(), distance.median().item())
    return found


def layers(bijector: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The bijectors that a flow is made of, with readable names in the order of use."""
    inner: nn.Module = bijector
    if isinstance(bijector, FactorOut):
        inner = bijector.bijector
    if not isinstance(inner, Chain):
        yield f"{prefix}/{type(inner).__name__}", inner
        return
    for number, part in enumerate(inner.bijectors):
        name = f"{prefix}/{number:03d}"
        if isinstance(part, (Chain, FactorOut)):
            yield from layers(part, name)
        else:
            yield f"{name}-{type(part).__name__}", part


@contextmanager
def _listening(model: FlowPlusPlus, found: Diagnosis, bits: float) -> Iterator[None]:
    def log_det_of(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
            if output[1].any():  # permutations have none
                found.layers[name] = output[1].mean().item() * bits

        return hook

    def scales(_module: nn.Module, _inputs: Any, member: Any) -> None:
        log_scales = member.bijectors[0].log_scales
        low, high = (value.item() for value in torch.aminmax(log_scales))
        before = found.log_scales or (low, high)
        found.log_scales = (min(low, before[0]), max(high, before[1]))

    parts: dict[str, nn.Module] = {"flow": model.flow}
    if isinstance(model.dequantizer, VariationalDequantizer):
        parts["dequantizer"] = model.dequantizer.flow
    with ExitStack() as hooks:
        for part, flow in parts.items():
            for name, layer in layers(flow, part):
                hooks.callback(layer.register_forward_hook(log_det_of(name)).remove)
        for module in model.modules():
            if isinstance(module, MixtureLogisticFamily):
                hooks.callback(module.register_forward_hook(scales).remove)
        yield
