"""Variational data augmentation: channels e ~ q(e|x) that a flow models together with the image.

A flow has as many dimensions everywhere as its input has. Extra channels e widen it; the bound
log p(x, e) - log q(e|x), in expectation over q at most log p(x), pays for them (VFlow eq. 5).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.checks import check_images, check_real, owner_name
from reference.conditioner import Conditioner
from reference.dequantization import beside_features
from reference.objective import log_normal


@dataclass(frozen=True, eq=False)
class Augmenter:
    """e = flow(eps; c(x)), eps ~ N(0, I), log q(e|x) = log N(eps) - log|det de/deps|.

    The images are dequantized: q sees the noise that was added to them.

    Attributes:
        levels: number of values of a channel; images are within [0, levels].
        channels: number of channels of e.
        split: puts halves of the image on channels before the context network.
        context_network: split(x / levels - 1/2) to context features c(x); in a conditional model
            `split` gets the features of the image's context too, as further channels.
        flow: conditional bijector from noise to e, on the real line; every coupling receives
            c(x).

    Raises:
        ValueError: fewer than 2 levels, or fewer than 1 channel.

    Source: Chen, Lu, Chenli, Zhu and Tian 2020 ("VFlow"), section 3. The released VFlow code has a
    sigmoid at the end of this flow; then the flow of (x, e), on the whole real line, gives
    probability to values that e never has.
    """

    levels: int
    channels: int
    split: Bijector
    context_network: Conditioner
    flow: Bijector

    def __post_init__(self) -> None:
        if not self.levels >= 2:
            raise ValueError(f"Augmenter needs at least 2 levels, got {self.levels}")
        if not self.channels >= 1:
            raise ValueError(f"Augmenter needs at least 1 channel, got {self.channels}")

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw standard normal noise eps for images of this shape, (B, C, H, W)."""
        return rng.standard_normal(self._shape(shape))

    def context(self, x: Array, features: Array | None = None) -> Array:
        """Compute c(x) of dequantized images, and of the features of their contexts."""
        return self.context_network(self._centred(x, features))

    def sample(self, x: Array, noise: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return e, (B, channels, H, W), and log q(e|x), (B,), from standard normal noise.

        In a conditional model `context` is (B, F, H, W), the features of each image's context.

        Raises:
            ValueError: x is not a batch of images, or the noise is not of e's shape.
        """
        x, noise = check_images(x, self), self._checked(noise, x, "noise")
        e, log_det = self.flow.forward(noise, self.context(x, context))
        return e, log_normal(noise) - log_det

    def log_prob(self, x: Array, e: Array, context: Array | None = None) -> Array:
        """Compute log q(e|x), (B,), for given e."""
        x, e = check_images(x, self), self._checked(e, x, "e")
        noise, log_det = self.flow.inverse(e, self.context(x, context))
        return log_normal(noise) + log_det

    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[Augmenter, Array]:
        """Fit the context network, then the flow; return the fitted augmenter and its e."""
        x, noise = check_images(x, self), self._checked(noise, x, "noise")
        network, c = self.context_network.initialize(self._centred(x, context))
        flow, e = self.flow.initialize(noise, c)
        return dataclasses.replace(self, context_network=network, flow=flow), e

    def _centred(self, x: Array, features: Array | None) -> Array:
        return self.split.forward(beside_features(x / self.levels - 0.5, features))[0]

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-3], self.channels, *shape[-2:])

    def _checked(self, array: Array, x: Array, name: str) -> Array:
        """Require noise or e for the images x, and return it as float64."""
        checked = check_real(array, self, f"its {name}")
        if checked.shape != self._shape(x.shape):
            raise ValueError(
                f"{owner_name(self)} needs {name} of shape {self._shape(x.shape)}, "
                f"got {checked.shape}"
            )
        return checked
