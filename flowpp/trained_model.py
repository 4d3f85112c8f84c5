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
from flowpp.config.context_spec import ContextSpec
from flowpp.config.settings import Precision
from flowpp.evaluation import sampling
from flowpp.evaluation.bound import image_noise
from flowpp.evaluation.given_contexts import check_none_is_trained, checked_contexts
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

    A conditional model needs the context of each image: a label by its name or index, a vector or
    an image, as `context_spec` says. One context stands for all images; an array, list or tensor
    has one per image. For a model of labels, "none" gives the unconditional probability. With
    tensors of images, `log_prob`, `bits_per_dim` and `encode` are differentiable with respect to
    tensors of vectors and images, too:

    >>> model.log_prob(images, ["cat", "dog"])         # doctest: +SKIP
    >>> model.sample(16, context="cat")                # doctest: +SKIP

    `state_dict()` and `torch.compile` work as for any module; `model.train()` switches dropout on.

    Args:
        model: dequantizer and flow.
        config: the settings it was trained with.
        image_shape: (channels, height, width).
        step: number of training steps.
        precision: arithmetic of all methods, as in `TrainingConfig.precision`.
        receipt: what the weights reach on held-out images, if a file of weights records it, as
            those of pretrained models do.
        data_sha256: hash of the images that it was trained on, if a file of weights records it.
    """

    def __init__(
        self,
        model: FlowPlusPlus,
        config: Config,
        image_shape: tuple[int, int, int],
        step: int = 0,
        precision: Precision = "float32",
        receipt: Mapping[str, Any] | None = None,
        data_sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.image_shape = model, config, image_shape
        self.step, self.precision, self.receipt = step, precision, receipt
        self.data_sha256 = data_sha256
        self.latent_shape = model.latent_shape_of(image_shape)
        """(C', H', W') of z."""
        self.train(model.training)

    @property
    def levels(self) -> int:
        """Number of values of a channel."""
        return self.model.levels

    @property
    def context_spec(self) -> ContextSpec | None:
        """Description of the contexts; None for an unconditional model."""
        return self.model.context_spec

    def forward(
        self, images: Any, context: Any = None, *, samples: int = 1, seed: Seed = "auto"
    ) -> Any:
        """Call `bits_per_dim`; hooks and wrappers use this method."""
        return self.bits_per_dim(images, context, samples=samples, seed=seed)

    def bits_per_dim(
        self, images: Any, context: Any = None, *, samples: int = 1, seed: Seed = "auto"
    ) -> Any:
        """Return upper bounds on -log2 P(x) per value, one per image: (N,); see `log_prob`."""
        log_prob = self.log_prob(images, context, samples=samples, seed=seed)
        return -log_prob / (math.prod(self.image_shape) * math.log(2))

    def log_prob(
        self, images: Any, context: Any = None, *, samples: int = 1, seed: Seed = "auto"
    ) -> Any:
        """Return lower bounds on log P(x), or log P(x|context), in nats, one per image: (N,).

        Args:
            images: arrays, lists or a tensor, see above.
            context: labels, vectors or images of a conditional model, see above.
            samples: number of noise draws per image; with several, the tighter importance-weighted
                bound. All are in memory together if gradients are computed.
            seed: see above.

        Raises:
            TypeError: images that are not numbers, or a context of another type.
            ValueError: wrong shape, values that are not integers 0 ... levels - 1, another device,
                fewer than 1 sample, or a context that is missing or does not fit.
        """
        samples = checks.whole("samples", samples)
        parts = [self._like.new_empty(0)]
        with self._computed(images):
            for x, noises, given in self._batches(images, context, seed, samples):
                bounds = torch.stack([self.model.elbo(x, noise, given).total for noise in noises])
                parts.append(importance_weighted_bound(bounds.double()))
        bound = torch.cat(parts) if len(parts) > 1 else parts[0].double()
        return bound if isinstance(images, Tensor) else bound.cpu().numpy()

    def sample(
        self,
        n: int,
        context: Any = None,
        *,
        temperature: float = 1.0,
        seed: Seed = "auto",
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Draw n images, uint8 or uint16 (n, C, H, W), from z of standard deviation `temperature`.

        A conditional model needs a context for all images or one for each, see above. `batch_size`
        images are computed at once, by default 64, or what fits into a GPU's memory.

        Raises:
            TypeError: n or the batch size is not an integer.
            ValueError: n or the batch size is below 1, the temperature is negative or infinite, or
                the context is missing or does not fit.
            NonFiniteImageError: a pixel is NaN or infinite.
        """
        n = checks.whole("n", n)
        batch_size = None if batch_size is None else checks.whole("batch_size", batch_size)
        given = self._contexts(context, n)
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
                    contexts=None if given is None else given.detach().cpu().numpy(),
                )
        finally:
            self.train(training)

    def encode(self, images: Any, context: Any = None, *, seed: Seed = "auto") -> Any:
        """Return the latents z of dequantized images: (N, *latent_shape).

        They depend on the noise drawn by `seed`; in an augmented model they hold e too.

        Raises:
            TypeError, ValueError: as `log_prob`.
        """
        parts = [self._like.new_empty((0, *self.latent_shape))]
        with self._computed(images):
            for x, (noise,), given in self._batches(images, context, seed, 1):
                parts.append(self.model.encode(x, noise, given))
        z = torch.cat(parts)
        return z if isinstance(images, Tensor) else z.cpu().numpy()

    @torch.no_grad()
    def decode(self, z: Any, context: Any = None) -> Any:
        """Return the images of latents, (N, C, H, W); the inverse of `encode`, given its context.

        They are uint8, or for more than 256 levels uint16, which as a tensor is int32.

        Raises:
            TypeError: latents that are not numbers.
            ValueError: latents of another shape, or on another device; a context that is missing
                or does not fit.
            NonFiniteImageError: a latent or a pixel is NaN or infinite.
        """
        like = self._like
        latents = checked_latents(z, self.latent_shape, like.dtype)
        if isinstance(z, Tensor):
            check_same_device(latents, like.device, "latents")
        check_finite(latents, "latents")
        given = self._contexts(context, len(latents))
        parts = [like.new_empty((0, *self.image_shape))]
        with evaluated_in(self.model, self.precision):
            for begin in range(0, len(latents), BATCH):
                rows = slice(begin, begin + BATCH)
                own = None if given is None else given[rows]
                parts.append(self.model.decode_unclipped(latents[rows].to(like.device), own))
        real = torch.cat(parts).cpu()
        array = image_array(pixels(real, self.levels), self.levels)
        return image_tensor(array).to(like.device) if isinstance(z, Tensor) else array

    @torch.no_grad()
    def round_trip(
        self, images: Any, context: Any = None, *, seed: Seed = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
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
            for x, (noise,), given in self._batches(images, context, seed, 1):
                features = self.model.features(given, x.shape)
                entered, _ = self.model.flow_input(x, noise, features)
                z, _ = self.model.flow(entered, features)
                inverses.append(self.model.decode_unclipped(z, given))
                errors.append((inverses[-1] - entered[:, : x.shape[1]]).abs())
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

    def _contexts(self, context: Any, count: int) -> Tensor | None:
        """Return the contexts of `count` images, checked."""
        like, spec = self._like, self.context_spec
        given = checked_contexts(context, spec, count, like, levels=self.levels)
        check_none_is_trained(given, spec, self.config.training.label_dropout)
        return given

    def _batches(
        self, images: Any, context: Any, seed: Seed, samples: int
    ) -> Iterator[tuple[Tensor, list[Tensor], Tensor | None]]:
        """Yield images, their noises and contexts, of the model's dtype and on its device.

        With gradients, all images are one batch, whose memory is the caller's choice.
        """
        like = self._like
        given = checked_images(images, self.image_shape, self.model)
        contexts = self._contexts(context, len(given))
        seed = self._seed(seed)
        first = None if seed is None else seeded_generator(seed).initial_seed()
        size = max(1, len(given)) if torch.is_grad_enabled() else BATCH
        for begin in range(0, len(given), size):
            rows = slice(begin, begin + size)
            x = given[rows].to(like.device, like.dtype)
            noises = [self._noise(x, first, begin, draw) for draw in range(samples)]
            yield x, noises, None if contexts is None else contexts[rows]

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
    facts = opened.checkpoint.facts
    return TrainedModel(
        opened.model, opened.config, opened.image_shape, opened.checkpoint.step, precision,
        facts.get("receipt"), facts.get("data_sha256"),
    )  # fmt: skip
