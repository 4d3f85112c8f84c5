"""What each layer computed on this device, and how far that is from another's arithmetic.

Every layer is judged at the input that reached it here, so that a difference is its own and not
that of the layers before it; the bound of the whole model is judged end to end.
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

from flowpp.data import npz
from flowpp.dequantization import VariationalDequantizer
from flowpp.evaluation.diagnostics import layers
from flowpp.evaluation.images import save_arrays
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim

IMAGES = 8
"""Held-out images that are looked at."""
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Layer:
    """What one layer was given and what it made of it, in the arithmetic of the device.

    Args:
        x: input `(N, C, H, W)`.
        context: of the dequantizer's couplings, the same for all of them; None elsewhere.
        y: output.
        log_det: `(N,)`.
    """

    x: np.ndarray
    context: np.ndarray | None
    y: np.ndarray
    log_det: np.ndarray


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A few images on their way through a model.

    Args:
        images: integers `(N, C, H, W)`.
        noise: the dequantizer's, as it was given to it.
        bits_per_dim: the one-sample bound of each image, `(N,)`.
        layers: by name, in the order of use; permutations are exact and left out.
        facts: plain values: device, dtype, weights, versions.
    """

    images: np.ndarray
    noise: np.ndarray
    bits_per_dim: np.ndarray
    layers: Mapping[str, Layer]
    facts: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write an `.npz`.

        Raises:
            OSError: it could not be written.
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
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or no fingerprint.
        """
        try:
            arrays = npz.read(path, npz.names(path))
            facts = json.loads(arrays["facts"].tobytes())
            kept = {
                str(name): Layer(
                    arrays[f"{number}/x"],
                    arrays["context"] if f"{number}/conditional" in arrays else None,
                    arrays[f"{number}/y"],
                    arrays[f"{number}/log_det"],
                )
                for number, name in enumerate(facts.pop("layers"))
            }
            return cls(arrays["images"], arrays["noise"], arrays["bits_per_dim"], kept, facts)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is no fingerprint of a model: {error!r}") from error


class Judge(Protocol):
    """Another arithmetic for the same weights; arrays in and arrays out."""

    name: str

    def forward(self, layer: str, x: np.ndarray, context: np.ndarray | None) -> Pair:
        """Output and log-determinant of one layer."""

    def bits_per_dim(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The bound of the whole model, for each image."""


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
        """As `Judge` has it."""
        given = None if context is None else torch.from_numpy(context).double()
        y, log_det = self.layers[layer](torch.from_numpy(x).double(), given)
        return y.numpy(), log_det.numpy()

    @torch.no_grad()
    def bits_per_dim(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """As `Judge` has it."""
        x, given = torch.from_numpy(images).double(), torch.from_numpy(noise).double()
        return bits_per_dim(self.model.elbo(x, given).total, images[0].size).numpy()


def named_layers(model: FlowPlusPlus) -> dict[str, nn.Module]:
    """The bijectors of a model by name, the dequantizer's first: they are used first."""
    found: dict[str, nn.Module] = {}
    if isinstance(model.dequantizer, VariationalDequantizer):
        found |= layers(model.dequantizer.flow, "dequantizer")
    return found | dict(layers(model.flow, "flow"))


@torch.no_grad()
def record(
    model: FlowPlusPlus, images: np.ndarray, seed: int, facts: Mapping[str, Any]
) -> Fingerprint:
    """Send images through the model where it is, in its dtype.

    Args:
        model: in evaluation mode.
        images: uint8 `(N, C, H, W)`.
        seed: of the dequantization noise.
        facts: plain values that go along.
    """
    like = next(model.parameters())
    draw = model.dequantizer.draw_noise(
        images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    noise = model.dequantizer.round_noise(draw, like.dtype)
    found: dict[str, Layer] = {}
    with ExitStack() as hooks:
        for name, layer in named_layers(model).items():
            hooks.callback(layer.register_forward_hook(_keep(name, found)).remove)
        total = model.elbo(torch.from_numpy(images).to(like), noise.to(like.device)).total
    bits = bits_per_dim(total.double(), images[0].size).cpu().numpy()
    return Fingerprint(images, noise.numpy(), bits, found, facts)


def compare(found: Fingerprint, judge: Judge) -> dict[str, Any]:
    """How far a recorded model is from a judge's arithmetic; plain values, ready for JSON.

    A relative difference is the largest difference over the largest value of the judge's; null is
    written for what is not finite.
    """
    dims = found.images[0].size
    rows = []
    for name, layer in found.layers.items():
        y, log_det = judge.forward(name, layer.x, layer.context)
        rows.append(
            {
                "layer": name,
                "log_det": _relative(layer.log_det, log_det),
                "log_det_bits_per_dim": _plain(
                    _largest(layer.log_det, log_det) / (dims * math.log(2))
                ),
                "output": _relative(layer.y, y),
            }
        )
    wanted = judge.bits_per_dim(found.images, found.noise)
    return {
        **found.facts,
        "judge": judge.name,
        "images": len(found.images),
        "bits_per_dim": {
            "here": _plain(float(found.bits_per_dim.mean())),
            "judge": _plain(float(wanted.mean())),
            "difference_of_means": _plain(float(found.bits_per_dim.mean() - wanted.mean())),
            "largest_difference": _plain(_largest(found.bits_per_dim, wanted)),
        },
        "layers": rows,
    }


def table(report: Mapping[str, Any], rows: int = 5) -> str:
    """The report in a few lines: the layers that differ most, and the whole."""
    worst = sorted(report["layers"], key=lambda r: -_number(r["log_det"]))[:rows]
    lines = [
        f"{report['device_name'] or report['device']}, {report['dtype']}, against "
        f"{report['judge']}; {report['images']} images, {len(report['layers'])} layers",
        f"  {'largest relative difference':<32} {'log-det':>9} {'output':>9}",
        *(
            f"  {row['layer']:<32} {_number(row['log_det']):9.1e} {_number(row['output']):9.1e}"
            for row in worst
        ),
        f"  bits/dim {_number(report['bits_per_dim']['here']):.6f}, "
        f"{_number(report['bits_per_dim']['difference_of_means']):+.1e} from the judge's; "
        f"of one image at most {_number(report['bits_per_dim']['largest_difference']):.1e}",
    ]
    return "\n".join(lines)


def _keep(name: str, found: dict[str, Layer]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        y, log_det = output
        if not log_det.any() and not list(module.parameters()):
            return
        context = inputs[1] if len(inputs) > 1 else None
        found[name] = Layer(
            _array(inputs[0]), None if context is None else _array(context), _array(y),
            _array(log_det),
        )  # fmt: skip

    return hook


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def _largest(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - wanted).max())


def _relative(got: np.ndarray, wanted: np.ndarray) -> float | None:
    difference, scale = _largest(got, wanted), float(np.abs(wanted).max())
    return _plain(difference / scale if scale else (math.inf if difference else 0.0))


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.inf if value is None else value
