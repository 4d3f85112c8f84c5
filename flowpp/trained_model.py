"""Python interface to a trained model: `flowpp.load(RUN)`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.config import Config, checks
from flowpp.config.settings import Precision
from flowpp.evaluation import sampling
from flowpp.evaluation.bound import image_noise
from flowpp.evaluation.given_images import checked_images, checked_latents
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.objective import importance_weighted_bound
from flowpp.runs.open_model import open_model
from flowpp.runtime.image_checks import check_same_device
from flowpp.runtime.image_tensors import check_finite, image_array, image_tensor, pixels
from flowpp.runtime.random_state import seeded_generator

BATCH = 64

Seed = int | None | Literal["auto"]


class TrainedModel(nn.Module):
    """A trained model as a module: bounds, samples and latents of images.

    Images are integers 0 ... levels - 1 of shape (N, channels, height, width). For arrays and
    lists the methods return NumPy arrays, without gradients. For tensors, which must be on the
    model's device, they return tensors, `log_prob`, `bits_per_dim` and `encode` with gradients:

    >>> model = flowpp.load("runs/mine").to("cuda")    # doctest: +SKIP
    >>> loss = model.bits_per_dim(images).mean()       # doctest: +SKIP
    >>> loss.backward()                                # doctest: +SKIP

    `seed` is an integer, with which equal calls return equal results; None, which draws from
    torch's global generator; or "auto": 0 in evaluation mode, in which `flowpp.load` returns the
    model, and None in training mode. With the same seed, the bound of the held-out images is the
    number that `python -m flowpp.evaluate` prints.

    `state_dict()` and `torch.compile` work as for any module; `model.train()` switches dropout on.

    Args:
        model: dequantizer and flow.
        config: the settings it was trained with.
        image_shape: (channels, height, width).
        step: number of training steps.
        precision: arithmetic of all methods, as in `TrainingConfig.precision`.
        receipt: what the weights reach on held-out images, if a file of weights records it, as
            those of pretrained models do.
    """

    def __init__(
        self,
        model: FlowPlusPlus,
        config: Config,
        image_shape: tuple[int, int, int],
        step: int = 0,
        precision: Precision = "float32",
        receipt: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.image_shape = model, config, image_shape
        self.step, self.precision, self.receipt = step, precision, receipt
        self.latent_shape = model.latent_shape_of(image_shape)
        """(C', H', W') of z."""
        self.train(model.training)

    @property
    def levels(self) -> int:
        """Number of values of a channel."""
        return self.model.levels

    def forward(self, images: Any, *, samples: int = 1, seed: Seed = "auto") -> Any:
        """Call `bits_per_dim`; hooks and wrappers use this method."""
        return self.bits_per_dim(images, samples=samples, seed=seed)

    def bits_per_dim(self, images: Any, *, samples: int = 1, seed: Seed = "auto") -> Any:
        """Return upper bounds on -log2 P(x) per value, one per image: (N,); see `log_prob`."""
        log_prob = self.log_prob(images, samples=samples, seed=seed)
        return -log_prob / (math.prod(self.image_shape) * math.log(2))

    def log_prob(self, images: Any, *, samples: int = 1, seed: Seed = "auto") -> Any:
        """Return lower bounds on log P(x) in nats, one per image: (N,).

        Args:
            images: arrays, lists or a tensor, see above.
            samples: number of noise draws per image; with several, the tighter importance-weighted
                bound. All are in memory together if gradients are computed.
            seed: see above.

        Raises:
            TypeError: images that are not numbers.
            ValueError: wrong shape, values that are not integers 0 ... levels - 1, another device,
                or fewer than 1 sample.
        """
        samples = checks.whole("samples", samples)
        parts = [self._like.new_empty(0)]
        with self._computed(images):
            for x, noises in self._batches(images, seed, samples):
                bounds = torch.stack([self.model.elbo(x, noise).total for noise in noises])
                parts.append(importance_weighted_bound(bounds.double()))
        bound = torch.cat(parts) if len(parts) > 1 else parts[0].double()
        return bound if isinstance(images, Tensor) else bound.cpu().numpy()

    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        seed: Seed = "auto",
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Draw n images, uint8 or uint16 (n, C, H, W), from z of standard deviation `temperature`.

        `batch_size` are computed at once, by default 64, or what fits into a GPU's memory.

        Raises:
            TypeError: n or the batch size is not an integer.
            ValueError: n or the batch size is below 1, or the temperature is negative or infinite.
            NonFiniteImageError: a pixel is NaN or infinite.
        """
        n = checks.whole("n", n)
        batch_size = None if batch_size is None else checks.whole("batch_size", batch_size)
        training = self.training
        try:
            with torch.no_grad(), evaluated_in(self.model, self.precision):
                return sampling.sample(
                    self.model,
                    self.image_shape,
                    n,
                    seeded_generator(self._seed(seed)),
                    temperature=float(temperature),
                    batch=batch_size,
                )
        finally:
            self.train(training)

    def encode(self, images: Any, *, seed: Seed = "auto") -> Any:
        """Return the latents z of dequantized images: (N, *latent_shape).

        They depend on the noise drawn by `seed`; in an augmented model they hold e too.

        Raises:
            TypeError, ValueError: as `log_prob`.
        """
        parts = [self._like.new_empty((0, *self.latent_shape))]
        with self._computed(images):
            for x, (noise,) in self._batches(images, seed, 1):
                parts.append(self.model.encode(x, noise))
        z = torch.cat(parts)
        return z if isinstance(images, Tensor) else z.cpu().numpy()

    @torch.no_grad()
    def decode(self, z: Any) -> Any:
        """Return the images of latents, (N, C, H, W); the inverse of `encode`.

        They are uint8, or for more than 256 levels uint16, which as a tensor is int32.

        Raises:
            TypeError: latents that are not numbers.
            ValueError: latents of another shape, or on another device.
            NonFiniteImageError: a latent or a pixel is NaN or infinite.
        """
        like = self._like
        latents = checked_latents(z, self.latent_shape, like.dtype)
        if isinstance(z, Tensor):
            check_same_device(latents, like.device, "latents")
        check_finite(latents, "latents")
        parts = [like.new_empty((0, *self.image_shape))]
        with evaluated_in(self.model, self.precision):
            for part in latents.split(BATCH) if len(latents) else ():
                parts.append(self.model.decode_unclipped(part.to(like.device)))
        real = torch.cat(parts).cpu()
        array = image_array(pixels(real, self.levels), self.levels)
        return image_tensor(array).to(like.device) if isinstance(z, Tensor) else array

    @torch.no_grad()
    def round_trip(self, images: Any, *, seed: Seed = "auto") -> tuple[np.ndarray, np.ndarray]:
        """Encode and decode images; return the reconstructions and the error of each value.

        The error, in grey levels, is the distance between the dequantized image and the inverse of
        its z, before rounding.

        Raises:
            TypeError, ValueError: as `log_prob`.
            NonFiniteImageError: a pixel is NaN or infinite.
        """
        inverses = [self._like.new_empty((0, *self.image_shape))]
        errors = inverses[:]
        with self._computed(images):
            for x, (noise,) in self._batches(images, seed, 1):
                given, _ = self.model.flow_input(x, noise)
                z, _ = self.model.flow(given)
                inverses.append(self.model.decode_unclipped(z))
                errors.append((inverses[-1] - given[:, : x.shape[1]]).abs())
        rounded = pixels(torch.cat(inverses), self.levels)
        return image_array(rounded, self.levels), torch.cat(errors).cpu().numpy()

    @property
    def _like(self) -> Tensor:
        """A tensor of the model's dtype and device."""
        return next(self.model.parameters())

    @contextmanager
    def _computed(self, images: Any) -> Iterator[None]:
        """Compute in the model's precision; without gradients unless the images are tensors."""
        grad = isinstance(images, Tensor) and torch.is_grad_enabled()
        with torch.set_grad_enabled(grad), evaluated_in(self.model, self.precision):
            yield

    def _seed(self, seed: Seed) -> int | None:
        if seed == "auto":
            return None if self.training else 0
        return seed

    def _batches(
        self, images: Any, seed: Seed, samples: int
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield images and their noises, of the model's dtype and on its device.

        With gradients, all images are one batch, whose memory is the caller's choice.
        """
        like = self._like
        given = checked_images(images, self.image_shape, self.model)
        seed = self._seed(seed)
        first = None if seed is None else seeded_generator(seed).initial_seed()
        size = max(1, len(given)) if torch.is_grad_enabled() else BATCH
        for begin in range(0, len(given), size):
            x = given[begin : begin + size].to(like.device, like.dtype)
            yield x, [self._noise(x, first, begin, draw) for draw in range(samples)]

    def _noise(self, x: Tensor, seed: int | None, begin: int, draw: int) -> Tensor:
        """Return the noise of images `begin` ...: that of evaluations, or without seed fresh."""
        if seed is None:
            return self.model.draw_noise(x.shape, dtype=x.dtype, device=x.device)
        pairs = [(begin + row, draw) for row in range(len(x))]
        return image_noise(self.model, self.image_shape, seed, pairs).to(x.device)


def load(
    run: Path | str,
    *,
    device: str = "cpu",
    checkpoint: Literal["newest", "best"] = "newest",
    precision: Precision = "float32",
    warn: Callable[[str], None] = warnings.warn,
    which: Literal["newest", "best"] | None = None,
) -> TrainedModel:
    """Load a model from a run directory or a checkpoint file, or a pretrained one by its name.

    No data set is needed. If a path is also the name of a pretrained model, the path is taken and
    `warn` says so.

    Args:
        run: a run directory, a checkpoint file with its settings inside, or a name: "digits".
        device: where to compute.
        checkpoint: the checkpoint of a run directory: the newest, or the best on held-out images.
        precision: arithmetic of the model, whatever it was trained in; see
            `TrainingConfig.precision`.
        warn: called with a message for each damaged newest checkpoint that is skipped, and if
            there is also a pretrained model named as the path.
        which: former name of `checkpoint`.

    Raises:
        FileNotFoundError: the run or its checkpoint does not exist, nor a pretrained model of that
            name; the message lists the names.
        ValueError: the settings or all checkpoints are damaged, the device is not usable, or
            another checkpoint or precision.
    """
    checks.one_of("precision", precision, Precision)
    checks.one_of("checkpoint", which or checkpoint, Literal["newest", "best"])
    opened = open_model(Path(run), which=which or checkpoint, device=device, warn=warn)
    return TrainedModel(
        opened.model, opened.config, opened.image_shape, opened.checkpoint.step, precision,
        opened.checkpoint.facts.get("receipt"),
    )  # fmt: skip
