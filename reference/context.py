"""Encoders of a conditional model's context: one context an image, to features of each pixel.

Features are (B, F, H, W), at the image's own resolution. All couplings of the flow, of the
dequantizer and of the augmenter see them instead of the context.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.bijectors.bijector import Array
from reference.bijectors.checks import check_images, check_real
from reference.bijectors.fields import set_field
from reference.conditioner import Conditioner

Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""


@dataclass(frozen=True, eq=False)
class LabelEncoder:
    """features[b, :, i, j] = embedding[label[b]], for all pixels i, j.

    Of N + 1 labels the last stands for none.

    Attributes:
        embedding: (N + 1, F).

    Raises:
        ValueError: an embedding of another shape, or for fewer than 2 labels; on use, labels that
            are not (B,) integers within 0 ... N.
    """

    embedding: Array

    def __post_init__(self) -> None:
        if len(set_field(self, "embedding", ndim=2)) < 2:
            raise ValueError(
                f"LabelEncoder needs an embedding of at least 2 labels, got {len(self.embedding)}"
            )

    def __call__(self, context: Array, image_shape: Shape) -> Array:
        """Compute features, (B, F, H, W), of labels, (B,)."""
        labels = np.asarray(context)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be integers of shape (B,), got {labels.dtype} of {labels.shape}"
            )
        outside = labels[(labels < 0) | (labels >= len(self.embedding))]
        if outside.size:
            raise ValueError(
                f"labels must lie in 0 ... {len(self.embedding) - 1}, got {outside[0]}"
            )
        return _everywhere(self.embedding[labels], image_shape)

    def initialize(self, context: Array, image_shape: Shape) -> tuple[LabelEncoder, Array]:
        """Return the encoder itself, which has nothing to fit, and the features."""
        return self, self(context, image_shape)


@dataclass(frozen=True, eq=False)
class VectorEncoder:
    """features[b, :, i, j] = ((v[b] - mean) / scale) weight^T + bias, for all pixels i, j.

    Mean and scale are constants, which initialization sets to the mean and the standard deviation
    of a batch; the scale of a column that is constant there is 1.

    Attributes:
        mean: (D,).
        scale: (D,), positive.
        weight: (F, D).
        bias: (F,).

    Raises:
        ValueError: shapes that do not agree; on use, vectors that are not (B, D) or not finite.
    """

    mean: Array
    scale: Array
    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        weight = set_field(self, "weight", ndim=2)
        mean, scale, bias = (set_field(self, name) for name in ("mean", "scale", "bias"))
        if not (mean.shape == scale.shape == weight.shape[1:] and bias.shape == weight.shape[:1]):
            raise ValueError(
                "VectorEncoder needs mean and scale (D,), weight (F, D) and bias (F,), got "
                f"{mean.shape}, {scale.shape}, {weight.shape} and {bias.shape}"
            )

    def __call__(self, context: Array, image_shape: Shape) -> Array:
        """Compute features, (B, F, H, W), of vectors, (B, D)."""
        standardized = (self._vectors(context) - self.mean) / self.scale
        return _everywhere(standardized @ self.weight.T + self.bias, image_shape)

    def initialize(self, context: Array, image_shape: Shape) -> tuple[VectorEncoder, Array]:
        """Fit mean and scale; return the fitted encoder and its features."""
        vectors = self._vectors(context)
        varies = (vectors != vectors[:1]).any(axis=0)
        scale = np.where(varies, vectors.std(axis=0), 1.0)
        fitted = dataclasses.replace(self, mean=vectors.mean(axis=0), scale=scale)
        return fitted, fitted(context, image_shape)

    def _vectors(self, context: Any) -> Array:
        vectors = check_real(context, self, "its vectors")
        if vectors.ndim != 2 or vectors.shape[1:] != self.mean.shape:
            raise ValueError(f"vectors must have shape (B, {len(self.mean)}), got {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError(f"vectors must be finite, got {vectors[~np.isfinite(vectors)][0]}")
        return vectors


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """features = network(repeat(context / levels - 1/2)).

    Each pixel of a smaller context is repeated as often as the image's size asks for.

    Attributes:
        levels: number of values of a context's channel.
        network: (B, K, H, W) to features (B, F, H, W).

    Raises:
        ValueError: fewer than 2 levels; on use, contexts that are not (B, K, h, w), whose height
            and width do not divide the image's by the same factor, or with values outside
            0 ... levels - 1.
    """

    levels: int
    network: Conditioner

    def __post_init__(self) -> None:
        if not self.levels >= 2:
            raise ValueError(f"ImageEncoder needs at least 2 levels, got {self.levels}")

    def __call__(self, context: Array, image_shape: Shape) -> Array:
        """Compute features, (B, F, H, W), of images, (B, K, h, w)."""
        return self.network(self._centred(context, image_shape))

    def initialize(self, context: Array, image_shape: Shape) -> tuple[ImageEncoder, Array]:
        """Fit the network; return the fitted encoder and its features."""
        network, features = self.network.initialize(self._centred(context, image_shape))
        return dataclasses.replace(self, network=network), features

    def _centred(self, context: Any, image_shape: Shape) -> Array:
        images = check_images(context, self)
        outside = images[~((images >= 0) & (images <= self.levels - 1))]
        if outside.size:
            raise ValueError(
                f"context images must lie in 0 ... {self.levels - 1}, got {outside[0]}"
            )
        (height, width), (own_height, own_width) = image_shape[1:], images.shape[2:]
        factor = height // own_height if own_height else 0
        if (factor * own_height, factor * own_width) != (height, width):
            raise ValueError(
                f"context images must have the size {height}x{width} of the images divided by a "
                f"whole number, got {own_height}x{own_width}"
            )
        repeated = images.repeat(factor, axis=2).repeat(factor, axis=3)
        return repeated / self.levels - 0.5


def _everywhere(features: Array, image_shape: Shape) -> Array:
    """Return features (B, F) at each pixel: (B, F, H, W)."""
    return np.tile(features[:, :, None, None], (1, 1, *image_shape[1:]))
