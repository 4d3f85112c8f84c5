"""Bits per dimension of single images, as CSV, and maps of the bits of their pixels."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowpp.evaluation.bound import image_noise
from flowpp.evaluation.contexts import context_tensor
from flowpp.evaluation.importance import importance_log_probs
from flowpp.evaluation.pixel_bits import pixel_bits
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.runtime.files import atomic_write
from flowpp.runtime.image_tensors import image_tensor

COLUMNS = ("image", "bits_per_dim", "rank", "one_sample_bits_per_dim", "note")
MAP_DRAWS = 16
"""Largest number of draws that a map is the mean of."""
MAP_BATCH = 64


@dataclass(frozen=True, eq=False)
class Scores:
    """Bits per dimension of images, upper bounds on -log2 P(x) / D.

    Args:
        bits_per_dim: float64 (N,), by importance sampling if there is more than one draw.
        one_sample: the one-sample bounds of the first draw, likewise.
    """

    bits_per_dim: np.ndarray
    one_sample: np.ndarray

    def order(self) -> np.ndarray:
        """Return the indices of the images with the most bits first; those without last."""
        return np.argsort(np.where(np.isfinite(self.bits_per_dim), -self.bits_per_dim, np.inf),
                          kind="stable")  # fmt: skip


def score_images(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int,
    *,
    seed: int,
    batch: int,
    progress: Callable[[int], None] = lambda count: None,
    contexts: np.ndarray | None = None,
) -> Scores:
    """Score each image; arguments and errors as those of `importance_bounds`."""
    bounds = importance_log_probs(
        model, images, samples, seed=seed, batch=batch, progress=progress, contexts=contexts
    )
    scale = -1 / (images[0].size * math.log(2))
    return Scores(scale * bounds[samples], scale * bounds[1])


@torch.no_grad()
def bits_maps(
    model: FlowPlusPlus,
    images: np.ndarray,
    indices: Sequence[int],
    samples: int,
    *,
    seed: int,
    contexts: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the bits of each pixel of chosen images, float64 (len(indices), H, W).

    A map is the mean over the first draws behind the image's score, `MAP_DRAWS` at most; its sum
    is the mean of their one-sample bounds. With one draw that is the image's score, in bits.
    """
    like, draws = next(model.parameters()), min(samples, MAP_DRAWS)
    pairs = [(int(index), draw) for index in indices for draw in range(draws)]
    maps = []
    with evaluated_in(model.eval(), "float32"):
        for begin in range(0, len(pairs), MAP_BATCH):
            part = pairs[begin : begin + MAP_BATCH]
            rows = [index for index, _ in part]
            x = image_tensor(images[rows]).to(like.device)
            noise = image_noise(model, images.shape[1:], seed, part).to(like.device)
            given = None if contexts is None else context_tensor(contexts[rows], like)
            maps.append(pixel_bits(model, x, noise, given).cpu().numpy())
    each = np.concatenate(maps).reshape(len(indices), draws, *images.shape[2:])
    return each.mean(axis=1)


def write_csv(
    path: Path, names: Sequence[str], scores: Scores, left_out: Mapping[str, str]
) -> None:
    """Write a row for each image in order, then one for each file left out.

    The columns are `COLUMNS`: rank 1 has the most bits per dimension; a number that is not finite
    is left empty, and the note says so.
    """
    ranks = {int(index): rank for rank, index in enumerate(scores.order(), 1)}
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for index, name in enumerate(names):
            bits, one = scores.bits_per_dim[index], scores.one_sample[index]
            if math.isfinite(bits):
                writer.writerow((name, f"{bits:.6f}", ranks[index], f"{one:.6f}", ""))
            else:
                writer.writerow((name, "", "", "", f"not finite: {bits}"))
        writer.writerows((name, "", "", "", why) for name, why in left_out.items())
