"""Comparison of a fingerprint with other arithmetic.

Each layer is compared at its recorded input, so differences do not accumulate from the layers
before it; the bound is compared for the model as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from flowpp.evaluation.fingerprint import Fingerprint, named_layers
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.files import finite_or_null

Pair = tuple[np.ndarray, np.ndarray]


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


def _max_difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - expected).max())


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    difference, scale = _max_difference(got, expected), float(np.abs(expected).max())
    return difference / scale if scale else (math.inf if difference else 0.0)


def _number(value: float | None) -> float:
    return math.inf if value is None else value
