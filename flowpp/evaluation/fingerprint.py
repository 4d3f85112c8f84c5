"""Record each layer's input and output on a device, and compare them with other arithmetic.

Each layer is compared at its recorded input, so differences do not accumulate from the layers
before it; the bound is compared for the model as a whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.data import ImageSet, npz
from flowpp.dequantization import VariationalDequantizer
from flowpp.evaluation.diagnostics import layers
from flowpp.evaluation.images import save_arrays
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runs import environment
from flowpp.runs.restore import OpenedModel
from flowpp.runtime.files import finite_or_null
from flowpp.runtime.hashing import weights_hash

IMAGES = 8
"""Default number of held-out images."""
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Layer:
    """Input and output of one layer, in the arithmetic of the device.

    Args:
        x: input `(N, C, H, W)`.
        context: input of the dequantizer's couplings, the same for all of them; None elsewhere.
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
        for number, layer in enumerate(self.layers.values()):
            for name in ("x", "y", "log_det"):
                arrays[f"{number}/{name}"] = getattr(layer, name)
            if layer.context is not None:
                arrays["context"] = layer.context
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
            facts = json.loads(arrays["facts"].tobytes())
            layers = {
                str(name): Layer(
                    arrays[f"{number}/x"],
                    arrays["context"] if f"{number}/conditional" in arrays else None,
                    arrays[f"{number}/y"],
                    arrays[f"{number}/log_det"],
                )
                for number, name in enumerate(facts.pop("layers"))
            }
            return cls(arrays["images"], arrays["noise"], arrays["bits_per_dim"], layers, facts)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is not a fingerprint of a model: {error!r}") from error


class Arithmetic(Protocol):
    """Another implementation of the same model, on arrays."""

    name: str

    def forward(self, layer: str, x: np.ndarray, context: np.ndarray | None) -> Pair:
        """Output and log-determinant of one layer."""

    def bits_per_dim(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """One-sample bound of each image, `(N,)`."""


class Float64:
    """The same model in float64 on the CPU.

    Args:
        model: a copy that may be changed.
    """

    name = "flowpp, float64, CPU"

    def __init__(self, model: FlowPlusPlus) -> None:
        self.model = model.cpu().double().eval()
        self.layers = named_layers(self.model)

    @torch.no_grad()
    def forward(self, layer: str, x: np.ndarray, context: np.ndarray | None) -> Pair:
        """See `Arithmetic`."""
        wide = None if context is None else torch.from_numpy(context).double()
        y, log_det = self.layers[layer](torch.from_numpy(x).double(), wide)
        return y.numpy(), log_det.numpy()

    @torch.no_grad()
    def bits_per_dim(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """See `Arithmetic`."""
        x, eps = torch.from_numpy(images).double(), torch.from_numpy(noise).double()
        return bits_per_dim(self.model.elbo(x, eps).total, images[0].size).numpy()


def named_layers(model: FlowPlusPlus) -> dict[str, nn.Module]:
    """Return a model's bijectors by name, in order of use: the dequantizer's first."""
    found: dict[str, nn.Module] = {}
    if isinstance(model.dequantizer, VariationalDequantizer):
        found |= layers(model.dequantizer.flow, "dequantizer")
    return found | dict(layers(model.flow, "flow"))


@torch.no_grad()
def record(
    model: FlowPlusPlus, images: np.ndarray, seed: int, facts: Mapping[str, Any]
) -> Fingerprint:
    """Record a model's layers on its own device and in its own dtype.

    Args:
        model: a model in evaluation mode.
        images: uint8 `(N, C, H, W)`.
        seed: seed of the dequantization noise.
        facts: plain values to store with the recording.
    """
    like = next(model.parameters())
    draw = model.dequantizer.draw_noise(
        images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    noise = model.dequantizer.round_noise(draw, like.dtype)
    recorded: dict[str, Layer] = {}
    with ExitStack() as hooks:
        for name, layer in named_layers(model).items():
            hooks.callback(layer.register_forward_hook(_recorder(name, recorded)).remove)
        total = model.elbo(torch.from_numpy(images).to(like), noise.to(like.device)).total
    bits = bits_per_dim(total.double(), images[0].size).cpu().numpy()
    return Fingerprint(images, noise.numpy(), bits, recorded, facts)


def describe(opened: OpenedModel, images: ImageSet, seed: int) -> dict[str, Any]:
    """Return the facts of a recording: device, dtype, weights and environment."""
    like = next(opened.model.parameters())
    described = environment.describe(like.device, seed, images)
    return {
        "device": described["device"],
        "device_name": described["device_name"],
        "dtype": str(like.dtype).removeprefix("torch."),
        "step": opened.checkpoint.step,
        "weights_sha256": weights_hash(opened.checkpoint.used(average=True)),
        "levels": images.levels,
        "environment": described,
    }


def compare(recorded: Fingerprint, other: Arithmetic) -> dict[str, Any]:
    """Compare a recording with another arithmetic; plain values, ready for JSON.

    Relative differences are the largest difference over the largest value of `other`. NaN and
    infinity become null.
    """
    dims = recorded.images[0].size
    rows = []
    for name, layer in recorded.layers.items():
        y, log_det = other.forward(name, layer.x, layer.context)
        difference = _max_difference(layer.log_det, log_det)
        rows.append(
            {
                "layer": name,
                "log_det": _relative(layer.log_det, log_det),
                "log_det_bits_per_dim": difference / (dims * math.log(2)),
                "output": _relative(layer.y, y),
            }
        )
    bits = other.bits_per_dim(recorded.images, recorded.noise)
    report = {
        **recorded.facts,
        "judge": other.name,
        "images": len(recorded.images),
        "bits_per_dim": {
            "here": float(recorded.bits_per_dim.mean()),
            "judge": float(bits.mean()),
            "difference_of_means": float(recorded.bits_per_dim.mean() - bits.mean()),
            "largest_difference": _max_difference(recorded.bits_per_dim, bits),
        },
        "layers": rows,
    }
    return dict(finite_or_null(report))


def table(report: Mapping[str, Any], rows: int = 5) -> str:
    """Format the report in a few lines: the layers that differ most, and the bound."""
    worst = sorted(report["layers"], key=lambda r: -_number(r["log_det"]))[:rows]
    bits = report["bits_per_dim"]
    lines = [
        f"{report['device_name'] or report['device']}, {report['dtype']}, compared with "
        f"{report['judge']}; {report['images']} images, {len(report['layers'])} layers",
        f"  {'largest relative difference':<32} {'log-det':>9} {'output':>9}",
        *(
            f"  {row['layer']:<32} {_number(row['log_det']):9.1e} {_number(row['output']):9.1e}"
            for row in worst
        ),
        f"  bits/dim {_number(bits['here']):.6f}, difference "
        f"{_number(bits['difference_of_means']):+.1e} on average, at most "
        f"{_number(bits['largest_difference']):.1e} for one image",
    ]
    return "\n".join(lines)


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


def _max_difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - expected).max())


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    difference, scale = _max_difference(got, expected), float(np.abs(expected).max())
    return difference / scale if scale else (math.inf if difference else 0.0)


def _number(value: float | None) -> float:
    return math.inf if value is None else value
