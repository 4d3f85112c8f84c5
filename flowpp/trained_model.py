"""Python interface to a trained model: `flowpp.load(RUN)`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from flowpp.config import Config
from flowpp.config.settings import Precision
from flowpp.evaluation import sampling
from flowpp.evaluation.bound import log_weights
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.runs.open_model import open_model
from flowpp.runtime.image_tensors import image_array, image_tensor
from flowpp.runtime.random_state import seeded_generator

BATCH = 64

Method = TypeVar("Method", bound=Callable[..., Any])


def _computed(method: Method) -> Method:
    """Compute a method in the model's precision, without gradients."""

    @functools.wraps(method)
    def computed(self: TrainedModel, *args: Any, **options: Any) -> Any:
        with torch.no_grad(), evaluated_in(self.model, self.precision):
            return method(self, *args, **options)

    return cast("Method", computed)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model with its averaged weights, on NumPy arrays.

    Images are integers 0 ... levels - 1 of shape (N, channels, height, width). Noise is drawn from
    `seed`, image by image, so equal calls return equal results.

    Args:
        model: the model in evaluation mode.
        config: the settings it was trained with.
        image_shape: (channels, height, width).
        step: number of training steps.
        precision: arithmetic of all methods, as in `TrainingConfig.precision`.
    """

    model: FlowPlusPlus
    config: Config
    image_shape: tuple[int, int, int]
    step: int
    precision: Precision = "float32"

    @property
    def levels(self) -> int:
        """Number of values of a channel."""
        return self.model.levels

    @_computed
    def log_prob(self, images: Any, *, seed: int = 0) -> np.ndarray:
        """Return one-sample lower bounds on log P(x) in nats, one per image: (N,).

        Raises:
            ValueError: wrong shape, or values that are not integers 0 ... levels - 1.
        """
        x, generator = self._images(images), seeded_generator(seed)
        parts = [log_weights(self.model, part.numpy(), generator) for part in x.split(BATCH)]
        return torch.cat(parts).numpy() if parts else np.empty(0)

    @_computed
    def sample(
        self, n: int, *, temperature: float = 1.0, seed: int = 0, batch_size: int | None = None
    ) -> np.ndarray:
        """Draw n images, uint8 or uint16 (n, C, H, W), from z of standard deviation `temperature`.

        `batch_size` are computed at once, by default 64, or what fits into a GPU's memory.

        Raises:
            ValueError: n is below 1, or the temperature is negative or not finite.
            NonFiniteSampleError: a pixel is NaN or infinite.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return sampling.sample(
            self.model,
            self.image_shape,
            n,
            seeded_generator(seed),
            temperature=temperature,
            batch=batch_size,
        )

    @_computed
    def encode(self, images: Any, *, seed: int = 0) -> np.ndarray:
        """Return the latents z of dequantized images: (N, *latent shape).

        Raises:
            ValueError: wrong shape, or values that are not integers 0 ... levels - 1.
        """
        return torch.cat([z for _, z in self._encoded(images, seed)]).numpy()

    @_computed
    def decode(self, z: Any) -> np.ndarray:
        """Return the images of latents, uint8 or uint16 (N, C, H, W); the inverse of `encode`."""
        parts = torch.as_tensor(np.asarray(z)).to(self._like.dtype).split(BATCH)
        images = [self.model.decode_images(part.to(self._like.device)).cpu() for part in parts]
        return image_array(torch.cat(images), self.levels)

    @_computed
    def round_trip(self, images: Any, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Encode and decode images; return the reconstructions and the error of each value.

        The error, in grey levels, is the distance between the dequantized image and the inverse of
        its z, before rounding.
        """
        reconstructions, errors = [], []
        for continuous, z in self._encoded(images, seed):
            inverse, _ = self.model.flow.inverse(z.to(self._like.device))
            errors.append((inverse.cpu() - continuous).abs())
            levels = inverse.floor().clamp(0, self.levels - 1)
            reconstructions.append(image_array(levels, self.levels))
        return np.concatenate(reconstructions), torch.cat(errors).numpy()

    @property
    def _like(self) -> Tensor:
        """A tensor of the model's dtype and device."""
        return next(self.model.parameters())

    def _encoded(self, images: Any, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Return (dequantized images, z) of each batch, on the CPU."""
        generator, encoded = seeded_generator(seed), []
        for part in self._images(images).split(BATCH):
            noise = self.model.dequantizer.draw_noise(
                part.shape, dtype=self._like.dtype, generator=generator
            )
            x = part.to(self._like.device, self._like.dtype)
            u, _ = self.model.dequantizer.sample(x, noise.to(x.device))
            z, _ = self.model.flow(x + u)
            encoded.append(((x + u).cpu(), z.cpu()))
        return encoded

    def _images(self, images: Any) -> Tensor:
        x = image_tensor(np.asarray(images))
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images must have shape (N, {', '.join(map(str, self.image_shape))}), "
                f"got {tuple(x.shape)}"
            )
        return x


def load(
    run: Path | str,
    *,
    device: str = "cpu",
    which: Literal["newest", "best"] = "newest",
    precision: Precision = "float32",
    warn: Callable[[str], None] = warnings.warn,
) -> TrainedModel:
    """Load the model of a run directory or of a single checkpoint file; needs no data set.

    Args:
        run: a run directory, or a checkpoint file with its settings inside.
        device: where to compute.
        which: the checkpoint of a run directory: the newest, or the best on held-out images.
        precision: arithmetic of the model, whatever it was trained in; see
            `TrainingConfig.precision`.
        warn: called with a message for each damaged newest checkpoint that is skipped.

    Raises:
        FileNotFoundError: the run or its checkpoint does not exist.
        ValueError: the settings or all checkpoints are damaged, or the device is not usable.
    """
    opened = open_model(Path(run), which=which, device=device, warn=warn)
    return TrainedModel(
        opened.model, opened.config, opened.image_shape, opened.checkpoint.step, precision
    )
