"""Bits per dimension of a model on images it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim

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
def one_sample_bound(
    model: FlowPlusPlus, images: np.ndarray, generator: torch.Generator
) -> Estimate:
    """-ELBO / (D ln 2) with one draw of noise per image: bits per dimension, an upper bound."""
    model.eval()
    bounds = [
        log_weights(model, batch, generator)
        for batch in np.split(images, range(BATCH, len(images), BATCH))
    ]
    return Estimate.of(bits_per_dim(torch.cat(bounds), images[0].size))


def log_weights(model: FlowPlusPlus, images: np.ndarray, generator: torch.Generator) -> Tensor:
    """log p(x+u) - log q(u|x) for one u per image: (B,), float64 on the CPU."""
    like = next(model.parameters())
    x = torch.from_numpy(images).to(like.device, like.dtype)
    noise = model.dequantizer.draw_noise(
        x.shape, dtype=like.dtype, device=torch.device("cpu"), generator=generator
    )
    return model.elbo(x, noise.to(like.device)).total.double().cpu()
