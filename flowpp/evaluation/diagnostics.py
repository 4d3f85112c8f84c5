"""Per-layer contributions of a model, and the accuracy of its inverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.bijectors import Chain, FactorOut, FirstChannels, LiftedContext
from flowpp.dequantization import VariationalDequantizer
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.evaluation.bound import evaluation_noise
from flowpp.evaluation.contexts import context_tensor
from flowpp.model import FlowPlusPlus
from flowpp.root_finding import RootError
from flowpp.runtime.image_tensors import image_tensor

IMAGES = 32
"""Number of held-out images: enough to show trouble, and cheap to invert."""


@dataclass
class Diagnosis:
    """Diagnostics of one batch.

    Args:
        layers: log-determinant of each layer by name, averaged over the batch, in bits per
            dimension; those of the flow sum to its term of the bound, as do those of the
            dequantizer and of the augmenter.
        log_scales: smallest and largest log-scale of all logistic mixtures; None without any.
        round_trip: largest and median distance, over pixels, between an image and the inverse of
            its z, in grey levels; NaN where the inverse fails.
    """

    layers: dict[str, float] = field(default_factory=dict)
    log_scales: tuple[float, float] | None = None
    round_trip: tuple[float, float] = (math.nan, math.nan)

    def add_log_scales(self, log_scales: Tensor) -> None:
        """Widen the range of log-scales to include these."""
        low, high = (value.item() for value in torch.aminmax(log_scales))
        former = self.log_scales or (low, high)
        self.log_scales = (min(low, former[0]), max(high, former[1]))


@torch.no_grad()
def diagnose(
    model: FlowPlusPlus,
    images: np.ndarray,
    generator: torch.Generator,
    *,
    sequential_noise: bool = False,
    contexts: np.ndarray | None = None,
) -> Diagnosis:
    """Encode and decode a few images, and record what each layer contributes.

    Args:
        model: the model, which is put into evaluation mode.
        images: uint8 `(N, C, H, W)`; the first `IMAGES` are used.
        generator: generator whose seed is that of the noise, which is that of `evaluate_bound`.
        sequential_noise: see `evaluate_bound`.
        contexts: of a conditional model, a row for each image.
    """
    model.eval()
    like = next(model.parameters())
    x = image_tensor(images[:IMAGES]).to(like.device, like.dtype)
    noise = evaluation_noise(model, tuple(x.shape), generator, sequential=sequential_noise)
    diagnosis = Diagnosis()
    context = None if contexts is None else context_tensor(contexts[:IMAGES], like)
    features = model.features(context, x.shape)
    with _recorded(model, diagnosis, bits=1 / (x[0].numel() * math.log(2))):
        given, _ = model.flow_input(x, noise.to(like.device), features)
        z, _ = model.flow(given, features)
    try:
        inverse, _ = model.flow.inverse(z, features)
    except (ValueError, RootError):  # a singular matrix, or no root: round_trip stays NaN
        return diagnosis
    distance = (inverse - given)[:, : x.shape[1]].abs().double()
    diagnosis.round_trip = (distance.max().item(), distance.median().item())
    return diagnosis


def layers(bijector: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the bijectors of a flow in order of use, with readable names."""
    inner: nn.Module = bijector
    while isinstance(inner, FactorOut | FirstChannels | LiftedContext):
        inner = inner.bijector
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
def _recorded(model: FlowPlusPlus, diagnosis: Diagnosis, bits: float) -> Iterator[None]:
    """Record log-determinants, times `bits`, and log-scales of the passes inside the block."""
    parts: dict[str, nn.Module] = {"flow": model.flow}
    if isinstance(model.dequantizer, VariationalDequantizer):
        parts["dequantizer"] = model.dequantizer.flow
    if model.augmenter is not None:
        parts["augmenter"] = model.augmenter.flow
    with ExitStack() as stack:
        for part, flow in parts.items():
            for name, layer in layers(flow, part):
                hook = _log_det_hook(name, diagnosis, bits)
                stack.callback(layer.register_forward_hook(hook).remove)
        for module in model.modules():
            if isinstance(module, MixtureLogisticFamily):
                stack.enter_context(_log_scales_recorded(module, diagnosis))
        yield


def _log_det_hook(name: str, diagnosis: Diagnosis, bits: float) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        if output[1].any():  # zero for permutations
            diagnosis.layers[name] = output[1].mean().item() * bits

    return hook


@contextmanager
def _log_scales_recorded(family: MixtureLogisticFamily, diagnosis: Diagnosis) -> Iterator[None]:
    """Wrap `transform`, which couplings call directly, so that no forward hook would see it."""
    transform = family.transform

    def recorded(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        (_, _, log_scales), _ = family.fields(parameters)
        diagnosis.add_log_scales(log_scales)
        return transform(x, parameters)

    vars(family)["transform"] = recorded
    try:
        yield
    finally:
        del vars(family)["transform"]
