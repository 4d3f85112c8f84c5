"""Flow++: a dequantizer and a flow, and optionally an augmenter and an encoder of contexts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.augmentation import Augmenter
from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.chain import Chain
from reference.bijectors.checks import check_images, check_real
from reference.bijectors.data_logit import DataLogit
from reference.bijectors.first_channels import FirstChannels
from reference.context import ImageEncoder, LabelEncoder, VectorEncoder
from reference.dequantization import Dequantizer
from reference.objective import Elbo, log_normal


@dataclass(frozen=True, eq=False)
class FlowPlusPlus:
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    With an augmenter z = flow(x + u, e), and log q(e|x + u) is subtracted too, in expectation over
    e. Noise then has the augmenter's channels after those of the image.

    With a context encoder the model is conditional, P(x|context): each image comes with a context,
    and dequantizer, augmenter and flow all get the features that the encoder makes of it.

    Attributes:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z; from images and e, in this order on the channel axis,
            with an augmenter.
        augmenter: channels e and log q(e|x + u); None without.
        context_encoder: contexts to features (B, F, H, W); None for an unconditional model.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels, or an
            augmenter for another number.
    """

    dequantizer: Dequantizer
    flow: Bijector
    augmenter: Augmenter | None = None
    context_encoder: LabelEncoder | VectorEncoder | ImageEncoder | None = None

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

    def features(self, context: Array | None, shape: tuple[int, ...]) -> Array | None:
        """Return the features (B, F, H, W) of contexts; None for an unconditional model.

        Args:
            context: one for each image: labels (B,), vectors (B, D) or images (B, K, h, w).
            shape: (B, C, H, W) of the images.

        Raises:
            ValueError: no context for a conditional model, one for an unconditional model, another
                number of contexts than of images, or a context that does not fit.
        """
        self._check_context(context, shape)
        if self.context_encoder is None or context is None:
            return None
        batch, channels, height, width = shape
        return self.context_encoder(context, (channels, height, width))

    def flow_input(
        self, x: Array, noise: Array, features: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the flow's input for integer images, and log q, (B,).

        They are x + u and log q(u|x); with an augmenter (x + u, e) and log q(u|x) + log q(e|x+u).
        A conditional model needs the `features` of the images' contexts.

        Raises:
            ValueError: noise of another shape than `draw_noise` returns; as the dequantizer.
        """
        x, (noise, own) = np.asarray(x), self._split_noise(x, noise)
        u, log_q = self.dequantizer.sample(x, noise, features)
        dequantized = np.asarray(x, dtype=np.float64) + u
        if self.augmenter is None:
            return dequantized, log_q
        e, log_q_of_e = self.augmenter.sample(dequantized, own, features)
        return np.concatenate([dequantized, e], axis=1), log_q + log_q_of_e

    def elbo(self, x: Array, noise: Array, context: Array | None = None) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: (B, C, H, W), integers 0 ... levels - 1.
            noise: from `draw_noise`: (B, C, H, W), with an augmenter (B, C + its channels, H, W).
            context: one for each image in a conditional model, see `features`.
        """
        features = self.features(context, check_images(x, self).shape)
        given, log_q = self.flow_input(x, noise, features)
        z, log_det = self.flow.forward(given, features)
        return Elbo(log_q=log_q, log_det=log_det, log_prior=log_normal(z))

    def encode(self, x: Array, noise: Array, context: Array | None = None) -> Array:
        """Map integer images x to z, (B, C', H', W'), which holds the augmentation e too."""
        features = self.features(context, check_images(x, self).shape)
        return self.flow.forward(self.flow_input(x, noise, features)[0], features)[0]

    def decode(self, z: Array, context: Array | None = None) -> Array:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images. The
        channels of an augmentation are dropped.
        """
        shape = check_images(z, self).shape
        image_shape = self.flow.output_shape(shape[1:], inverse=True)
        image = self.flow.inverse(z, self.features(context, (shape[0], *image_shape)))[0]
        if self.augmenter is not None:
            image = image[:, : -self.augmenter.channels]
        return np.clip(image, 0.0, float(self.levels))

    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[FlowPlusPlus, Array]:
        """Initialize from data: return the model fitted to a batch, and that batch's z."""
        x, (noise, own) = np.asarray(x), self._split_noise(x, noise)
        self._check_context(context, x.shape)
        encoder, features = self.context_encoder, None
        if encoder is not None and context is not None:
            encoder, features = encoder.initialize(context, x.shape[1:])
        dequantizer, u = self.dequantizer.initialize(x, noise, features)
        given, augmenter = np.asarray(x, dtype=np.float64) + u, self.augmenter
        if augmenter is not None:
            augmenter, e = augmenter.initialize(given, own, features)
            given = np.concatenate([given, e], axis=1)
        flow, z = self.flow.initialize(given, features)
        fitted = FlowPlusPlus(dequantizer, flow, augmenter, encoder)
        return fitted, z

    def _check_context(self, context: Array | None, shape: tuple[int, ...]) -> None:
        """Require a context for each image of a conditional model, and none of others."""
        if (context is None) != (self.context_encoder is None):
            needed = "no context" if self.context_encoder is None else "a context"
            got = "none" if context is None else f"one of shape {np.shape(context)}"
            raise ValueError(f"FlowPlusPlus needs {needed}, got {got}")
        if context is not None and len(context) != shape[0]:
            raise ValueError(
                f"FlowPlusPlus needs a context for each of the {shape[0]} images, "
                f"got {len(context)}"
            )

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
