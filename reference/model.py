"""Flow++: a dequantizer and a flow, and in an augmented model an augmenter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.augmentation import Augmenter
from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.chain import Chain
from reference.bijectors.checks import check_images, check_real
from reference.bijectors.data_logit import DataLogit
from reference.bijectors.first_channels import FirstChannels
from reference.dequantization import Dequantizer
from reference.objective import Elbo, log_normal


@dataclass(frozen=True, eq=False)
class FlowPlusPlus:
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    With an augmenter z = flow(x + u, e), and log q(e|x + u) is subtracted too, in expectation over
    e. Noise then has the augmenter's channels after those of the image.

    Attributes:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z; from images and e, in this order on the channel axis,
            with an augmenter.
        augmenter: channels e and log q(e|x + u); None without.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels, or an
            augmenter for another number.
    """

    dequantizer: Dequantizer
    flow: Bijector
    augmenter: Augmenter | None = None

    def __post_init__(self) -> None:
        first = _first(self.flow)
        if isinstance(first, DataLogit) and first.levels != self.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {self.levels} levels, "
                f"got {first.levels}"
            )
        if self.augmenter is not None and self.augmenter.levels != self.levels:
            raise ValueError(
                f"FlowPlusPlus needs an augmenter for the dequantizer's {self.levels} levels, "
                f"got {self.augmenter.levels}"
            )

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw the noise that `elbo` needs for images of this shape, (B, C, H, W)."""
        noise = self.dequantizer.draw_noise(shape, rng)
        if self.augmenter is None:
            return noise
        return np.concatenate([noise, self.augmenter.draw_noise(shape, rng)], axis=1)

    def flow_input(self, x: Array, noise: Array) -> tuple[Array, Array]:
        """Return the flow's input for integer images, and log q, (B,).

        They are x + u and log q(u|x); with an augmenter (x + u, e) and log q(u|x) + log q(e|x+u).

        Raises:
            ValueError: noise of another shape than `draw_noise` returns; as the dequantizer.
        """
        x, (noise, own) = np.asarray(x), self._split_noise(x, noise)
        u, log_q = self.dequantizer.sample(x, noise)
        dequantized = np.asarray(x, dtype=np.float64) + u
        if self.augmenter is None:
            return dequantized, log_q
        e, log_q_of_e = self.augmenter.sample(dequantized, own)
        return np.concatenate([dequantized, e], axis=1), log_q + log_q_of_e

    def elbo(self, x: Array, noise: Array) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: (B, C, H, W), integers 0 ... levels - 1.
            noise: from `draw_noise`: (B, C, H, W), with an augmenter (B, C + its channels, H, W).
        """
        given, log_q = self.flow_input(x, noise)
        z, log_det = self.flow.forward(given)
        return Elbo(log_q=log_q, log_det=log_det, log_prior=log_normal(z))

    def encode(self, x: Array, noise: Array) -> Array:
        """Map integer images x to z, (B, C', H', W'), which holds the augmentation e too."""
        return self.flow.forward(self.flow_input(x, noise)[0])[0]

    def decode(self, z: Array) -> Array:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images. The
        channels of an augmentation are dropped.
        """
        image = self.flow.inverse(z)[0]
        if self.augmenter is not None:
            image = image[:, : -self.augmenter.channels]
        return np.clip(image, 0.0, float(self.levels))

    def initialize(self, x: Array, noise: Array) -> tuple[FlowPlusPlus, Array]:
        """Initialize from data: return the model fitted to a batch, and that batch's z."""
        x, (noise, own) = np.asarray(x), self._split_noise(x, noise)
        dequantizer, u = self.dequantizer.initialize(x, noise)
        given, augmenter = np.asarray(x, dtype=np.float64) + u, self.augmenter
        if augmenter is not None:
            augmenter, e = augmenter.initialize(given, own)
            given = np.concatenate([given, e], axis=1)
        flow, z = self.flow.initialize(given)
        fitted = dataclasses.replace(self, dequantizer=dequantizer, flow=flow, augmenter=augmenter)
        return fitted, z

    def _split_noise(self, x: Array, noise: Array) -> tuple[Array, Array]:
        """Return the noise of the dequantizer and of the augmenter."""
        if self.augmenter is None:
            return noise, np.empty(0)
        shape, noise = check_images(x, self).shape, check_real(noise, self, "its noise")
        needed = (shape[0], shape[1] + self.augmenter.channels, *shape[2:])
        if noise.shape != needed:
            raise ValueError(f"FlowPlusPlus needs noise of shape {needed}, got {noise.shape}")
        return noise[:, : shape[1]], noise[:, shape[1] :]


def _first(flow: Bijector) -> Bijector:
    """Return the bijector that the image enters first, inside any nested chains."""
    while True:
        if isinstance(flow, Chain) and flow.bijectors:
            flow = flow.bijectors[0]
        elif isinstance(flow, FirstChannels):
            flow = flow.bijector
        else:
            return flow
