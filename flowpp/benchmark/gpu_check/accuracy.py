"""Accuracy on the device: initialization in each precision, and each layer against float64."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowpp.benchmark.tasks import image_kind
from flowpp.benchmark.training_step import random_images
from flowpp.bijectors import ActNorm
from flowpp.conditioner import Conv2d
from flowpp.config import Config, presets
from flowpp.config.build import float32_meaning
from flowpp.config.settings import Precision
from flowpp.data import ImageSet
from flowpp.evaluation import comparison
from flowpp.evaluation import fingerprint as fingerprints
from flowpp.model import FlowPlusPlus
from flowpp.runtime.precision import float32_precision
from flowpp.training.initialization import initialize
from flowpp.training.setup import prepare

from .request import Request

DEVIATION = 0.01
"""Largest difference of an initialized layer's output deviation from the intended one."""
FEWEST_IMAGES = 8
ULP = float(torch.finfo(torch.float32).eps)
OUTPUT_ULPS = 64.0
"""Largest error of a layer's output, in ulps of float32 at the largest value of that output."""
LOG_DET_ULPS = 256.0
"""Largest error of a layer's log-determinant, likewise."""
BITS_PER_DIM = 1e-5
"""Largest difference of one image's bits per dimension from float64.

A CPU has 4.3 ulps, 13 ulps and 2.4e-7 for cifar10. Another order of summation changes them by
small factors; products rounded to TF32 have 8,192 times the error of IEEE float32."""


def initialization(request: Request) -> dict[str, Any]:
    """Measure the output deviations of initialized layers, over the intended ones."""
    result: dict[str, Any] = {"allowed": DEVIATION, "failures": []}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        deviations = layer_deviations(request, precision)
        off = (deviations - 1).abs().max().item()
        result[precision] = {
            "channels": len(deviations),
            "smallest": deviations.min().item(),
            "median": deviations.median().item(),
            "largest": deviations.max().item(),
        }
        if not off <= DEVIATION:
            result["failures"].append(
                f"{precision}: deviations must be within {DEVIATION:.0%} of 1, one is off by "
                f"{off:.2%}"
            )
    return result


def layer_deviations(request: Request, precision: Precision) -> Tensor:
    """Initialize a model as training does, without dropout, and repeat the forward pass."""
    config, images = _setting(request, 8 if request.tiny else 64, precision)
    with float32_precision(float32_meaning(precision)):
        model, x, noise = _initialized(config, images)
        deviations: list[Tensor] = []

        def record(layer: nn.Module, _: Any, output: Any) -> None:
            axes: tuple[int, ...] = (0, 2, 3)
            intended = 1.0
            if isinstance(layer, Conv2d):
                intended = layer.init_scale
            elif isinstance(layer, ActNorm):
                output = output[0]
                axes = (0, *(a + 1 for a in (1, 2) if layer.gain.shape[a] == 1))
            deviations.append(output.float().std(axes, correction=0).flatten() / intended)

        for layer in model.modules():
            if isinstance(layer, (ActNorm, Conv2d)):
                layer.register_forward_hook(record)
        with torch.no_grad():
            model.elbo(x, noise)
    return torch.cat(deviations).cpu()


def fingerprint(request: Request) -> dict[str, Any]:
    """Compare each layer of an initialized model with float64 on the CPU, in ulps of float32."""
    config, images = _setting(request, FEWEST_IMAGES, "float32")
    with float32_precision("ieee"):
        model, _, _ = _initialized(config, images)
    count = 2 if request.tiny else 4
    facts = {"device": request.device, "device_name": None, "dtype": "float32"}
    recorded = fingerprints.record(model, images.train[:count], 0, facts)
    report = comparison.compare(recorded, comparison.Float64(copy.deepcopy(model)))
    print(comparison.table(report))
    return in_ulps(report)


def in_ulps(report: dict[str, Any]) -> dict[str, Any]:
    """Return the largest errors of a comparison, in stated units, and which exceed the bounds."""
    rows = [
        {
            "layer": row["layer"],
            "output_ulps": _ulps(row["output"]),
            "log_det_ulps": _ulps(row["log_det"]),
            "log_det_bits_per_dim": row["log_det_bits_per_dim"],
        }
        for row in report["layers"]
    ]
    largest = {name: _largest(rows, name) for name in ("output_ulps", "log_det_ulps")}
    failures = []
    for name, allowed in (("output_ulps", OUTPUT_ULPS), ("log_det_ulps", LOG_DET_ULPS)):
        row = largest[name]
        if not _size(row[name]) <= allowed:
            failures.append(
                f"{name} of {row['layer']} must be at most {allowed:g}, got {row[name]}"
            )
    bits = report["bits_per_dim"]["largest_difference"]
    if not _size(bits) <= BITS_PER_DIM:
        failures.append(f"bits/dim must be within {BITS_PER_DIM:g} of float64, got {bits}")
    return {
        "unit": "ulps of float32 at the largest value of the layer's output or log-determinant",
        "allowed_output_ulps": OUTPUT_ULPS,
        "allowed_log_det_ulps": LOG_DET_ULPS,
        "allowed_bits_per_dim": BITS_PER_DIM,
        "bits_per_dim": report["bits_per_dim"],
        "largest_output_ulps": largest["output_ulps"]["output_ulps"],
        "largest_log_det_ulps": largest["log_det_ulps"]["log_det_ulps"],
        "layers": rows,
        "failures": failures,
    }


def _largest(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return max(rows, key=lambda row: _size(row[name]))


def _size(value: float | None) -> float:
    """Return a difference, infinity for null: it was not finite."""
    return math.inf if value is None else value


def _ulps(relative: float | None) -> float | None:
    return None if relative is None else relative / ULP


def _setting(request: Request, count: int, precision: Precision) -> tuple[Config, ImageSet]:
    config = presets.get(request.preset)
    training = replace(
        config.training,
        device=request.device,
        precision=precision,
        batch_size=1,
        init_batch_size=1,
    )
    images = random_images(count, *image_kind(config))
    return replace(config, training=training), images


def _initialized(config: Config, images: ImageSet) -> tuple[FlowPlusPlus, Tensor, Tensor]:
    """Return a model initialized on all images, without dropout, and what it was given."""
    _, model = prepare(config, images=images)
    device = next(model.parameters()).device
    x = torch.from_numpy(images.train).float()
    noise = model.draw_noise(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    x, noise = x.to(device), noise.to(device)
    initialize(model.eval(), x, noise)
    return model, x, noise
