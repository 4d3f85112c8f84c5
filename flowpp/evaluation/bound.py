"""Bits per dimension of a model on images it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup

BATCH = 128


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its standard error."""

    mean: float
    standard_error: float
    """Of the mean over images, as if these were drawn anew; NaN for a single image."""
    count: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Mean and standard error of one value per image."""
        spread = values.std().item() if len(values) > 1 else math.nan
        return cls(values.mean().item(), spread / math.sqrt(len(values)), len(values))

    def __str__(self) -> str:
        """Both numbers, as in a table."""
        return f"{self.mean:.4f} +- {self.standard_error:.4f}"


@torch.no_grad()
def evaluate_bound(
    model: FlowPlusPlus,
    images: np.ndarray,
    generator: torch.Generator,
    group: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, Estimate]:
    """The one-sample bound in bits per dimension, and its terms in the same unit.

    `bits_per_dim` = `log_q` - `log_det` - `log_prior`, as means. Every process draws all noise and
    computes every so-many-th batch of images, so that the numbers do not depend on how many there
    are.
    """
    model.eval()
    like = next(model.parameters())
    terms = np.zeros((4, len(images)))
    for number, begin in enumerate(range(0, len(images), BATCH)):
        x = torch.from_numpy(images[begin : begin + BATCH]).to(like.device, like.dtype)
        noise = model.dequantizer.draw_noise(
            x.shape, dtype=like.dtype, device=torch.device("cpu"), generator=generator
        )
        if number % group.size == group.rank:
            e = model.elbo(x, noise.to(like.device))
            rows = torch.stack((-e.total, e.log_q, e.log_det, e.log_prior)).double().cpu()
            terms[:, begin : begin + BATCH] = rows.numpy()
    # Of each column all processes but one hold zeros.
    nats = torch.from_numpy(group.gather_array(terms).sum(0))
    names = ("bits_per_dim", "log_q", "log_det", "log_prior")
    return {
        name: Estimate.of(-bits_per_dim(row, images[0].size))
        for name, row in zip(names, nats, strict=True)
    }


def log_weights(model: FlowPlusPlus, images: np.ndarray, generator: torch.Generator) -> Tensor:
    """log p(x+u) - log q(u|x) for one u per image: (B,), float64 on the CPU."""
    like = next(model.parameters())
    x = torch.from_numpy(images).to(like.device, like.dtype)
    noise = model.dequantizer.draw_noise(
        x.shape, dtype=like.dtype, device=torch.device("cpu"), generator=generator
    )
    return model.elbo(x, noise.to(like.device)).total.double().cpu()
