"""Fingerprints: the input and output of each layer of a model, recorded on one device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.config.settings import Precision
from flowpp.data import ImageSet, npz
from flowpp.dequantization import VariationalDequantizer
from flowpp.evaluation.diagnostics import layers
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runs import environment
from flowpp.runs.open_model import OpenedModel
from flowpp.runtime.bounded import parse_json
from flowpp.runtime.hashing import weights_hash
from flowpp.runtime.image_tensors import image_tensor
from flowpp.runtime.precision import precision_name

IMAGES = 8
"""Default number of held-out images."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Input and output of one layer, in the arithmetic of the device.

    Args:
        x: input `(N, C, H, W)`.
        context: input of the couplings of the dequantizer or of the augmenter, the same for all
            of each; None elsewhere.
        y: output.
        log_det: `(N,)`.
    """

    x: np.ndarray
    context: np.ndarray | None
    y: np.ndarray
    log_det: np.ndarray


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Recorded inputs and outputs of all layers for a few images.

    Args:
        images: integers `(N, C, H, W)`.
        noise: noise given to the dequantizer.
        bits_per_dim: one-sample bound of each image, `(N,)`.
        layers: layers by name, in order of use, without the permutations, which are exact.
        facts: plain values describing device, dtype, weights and versions.
    """

    images: np.ndarray
    noise: np.ndarray
    bits_per_dim: np.ndarray
    layers: Mapping[str, Layer]
    facts: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write an `.npz`.

        Raises:
            OSError: the file could not be written.
        """
        facts = {**self.facts, "layers": list(self.layers)}
        arrays = {
            "images": self.images,
            "noise": self.noise,
            "bits_per_dim": self.bits_per_dim,
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        }
        for number, (name, layer) in enumerate(self.layers.items()):
            for part in ("x", "y", "log_det"):
                arrays[f"{number}/{part}"] = getattr(layer, part)
            if layer.context is not None:
                arrays[_context_key(name)] = layer.context
                arrays[f"{number}/conditional"] = np.array(1, np.uint8)
        save_arrays(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Fingerprint:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it is damaged or not a fingerprint.
        """
        try:
            arrays = npz.read(path, npz.names(path))
            facts = parse_json(arrays["facts"].tobytes())
            layers = {
                str(name): Layer(
                    arrays[f"{number}/x"],
                    arrays[_context_key(name)] if f"{number}/conditional" in arrays else None,
                    arrays[f"{number}/y"],
                    arrays[f"{number}/log_det"],
                )
                for number, name in enumerate(facts.pop("layers"))
            }
            return cls(arrays["images"], arrays["noise"], arrays["bits_per_dim"], layers, facts)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is not a fingerprint of a model: {error!r}") from error


def _context_key(layer: str) -> str:
    """Return the name under which a layer's context is stored; the dequantizer's is "context"."""
    part = layer.partition("/")[0]
    return "context" if part == "dequantizer" else f"context/{part}"


def named_layers(model: FlowPlusPlus) -> dict[str, nn.Module]:
    """Return a model's bijectors by name, in order of use: dequantizer, augmenter, flow."""
    found: dict[str, nn.Module] = {}
    if isinstance(model.dequantizer, VariationalDequantizer):
        found |= layers(model.dequantizer.flow, "dequantizer")
    if model.augmenter is not None:
        found |= layers(model.augmenter.flow, "augmenter")
    return found | dict(layers(model.flow, "flow"))


@torch.no_grad()
def record(
    model: FlowPlusPlus,
    images: np.ndarray,
    seed: int,
    facts: Mapping[str, Any],
    precision: Precision = "float32",
) -> Fingerprint:
    """Record a model's layers on its own device and in its own dtype.

    Args:
        model: a model in evaluation mode.
        images: uint8 `(N, C, H, W)`.
        seed: seed of the dequantization noise.
        facts: plain values to store with the recording.
        precision: see `evaluated_in`.
    """
    like = next(model.parameters())
    draw = model.draw_noise(
        images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    noise = model.round_noise(draw, like.dtype)
    recorded: dict[str, Layer] = {}
    with ExitStack() as hooks:
        for name, layer in named_layers(model).items():
            hooks.callback(layer.register_forward_hook(_recorder(name, recorded)).remove)
        hooks.enter_context(evaluated_in(model, precision))
        total = model.elbo(image_tensor(images).to(like), noise.to(like.device)).total
    bits = bits_per_dim(total.cpu().double(), images[0].size).numpy()
    return Fingerprint(images, noise.numpy(), bits, recorded, facts)


def describe(
    opened: OpenedModel, images: ImageSet, seed: int, precision: Precision = "float32"
) -> dict[str, Any]:
    """Return the facts of a recording: device, dtype, precision, weights and environment."""
    like = next(opened.model.parameters())
    described = environment.describe(like.device, seed, images, precision)
    return {
        "device": described["device"],
        "device_name": described["device_name"],
        "dtype": str(like.dtype).removeprefix("torch."),
        "precision": precision_name(precision, like.dtype, like.device),
        "step": opened.checkpoint.step,
        "weights_sha256": weights_hash(opened.checkpoint.selected_weights(average=True)),
        "levels": images.levels,
        "environment": described,
    }


def _recorder(name: str, recorded: dict[str, Layer]) -> Callable[..., None]:
    """Return a forward hook that stores a layer's input and output under `name`."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        y, log_det = output
        if not log_det.any() and not list(module.parameters()):
            return  # a permutation
        context = inputs[1] if len(inputs) > 1 else None
        recorded[name] = Layer(
            _array(inputs[0]), None if context is None else _array(context), _array(y),
            _array(log_det),
        )  # fmt: skip

    return hook


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
