"""Encoders of a conditional model's context: one context an image, to features of each pixel.

Features are `(B, F, H, W)`, at the image's own resolution. All couplings of the flow, of the
dequantizer and of the augmenter see them instead of the context.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .bijectors.checks import checked_levels, may_read_values
from .bijectors.fields import set_field
from .runtime.image_checks import UNSIGNED, Shape


class ContextEncoder(nn.Module):
    """Features of the pixels of an image from its context."""

    def forward(self, context: Tensor, image_shape: Shape) -> Tensor:
        """Compute features `(B, F, H, W)`.

        Args:
            context: one context for each of B images.
            image_shape: (channels, height, width) of the images.

        Raises:
            TypeError: a context that is not a tensor of numbers.
            ValueError: a context of another shape, or with values outside its range.
        """
        raise NotImplementedError

    @property
    def needed(self) -> str:
        """Description of the contexts, for errors."""
        raise NotImplementedError


class LabelEncoder(ContextEncoder):
    """features[b, :, i, j] = embedding[label[b]], for all pixels i, j.

    Adds (N + 1) F weights to a model of N classes; the last label, N, stands for none.

    Args:
        embedding: `(N + 1, F)`.

    Raises:
        ValueError: an embedding of another shape, or for fewer than 2 labels; on use, labels that
            are not `(B,)` or lie outside 0 ... N.

    Numerics: on a CUDA device in training labels are not read; those outside give NaN.
    """

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        if embedding.ndim != 2 or len(embedding) < 2:
            raise ValueError(
                "LabelEncoder needs an embedding (labels, features) of at least 2 labels, got "
                f"shape {tuple(embedding.shape)}"
            )
        self.embedding = nn.Parameter(embedding)

    @classmethod
    def create(cls, labels: int, features: int) -> LabelEncoder:
        """Create standard normal features for each label, that for none included."""
        return cls(torch.randn(labels, features))

    @property
    def needed(self) -> str:
        return f"labels 0 ... {len(self.embedding) - 1}, the last for none"

    def forward(self, context: Tensor, image_shape: Shape) -> Tensor:
        labels = _checked(context, "labels", 1)
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {labels.dtype}")
        labels, last = labels.to(torch.int64), len(self.embedding) - 1
        valid = (labels >= 0) & (labels <= last)
        if may_read_values(labels, self):
            if not valid.all():
                raise ValueError(
                    f"labels must lie in 0 ... {last}, got {labels[~valid][0].item()}"
                )
            return _everywhere(self.embedding[labels], image_shape)
        features = self.embedding[labels.clamp(0, last)]
        return _everywhere(features.where(valid[:, None], torch.nan), image_shape)


class VectorEncoder(ContextEncoder):
    """features[b, :, i, j] = ((v[b] - mean) / scale) weight^T + bias, for all pixels i, j.

    Adds (D + 1) F weights to a model. Mean and scale are constants, which data-dependent
    initialization sets to the mean and the standard deviation of the first batch; the scale of a
    column that is constant there stays 1.

    Args:
        mean: `(D,)`.
        scale: `(D,)`, positive.
        weight: `(F, D)`.
        bias: `(F,)`.

    Raises:
        ValueError: shapes that do not agree; on use, vectors that are not `(B, D)` or not finite.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        if weight.ndim != 2 or not (
            mean.shape == scale.shape == weight.shape[1:] and bias.shape == weight.shape[:1]
        ):
            raise ValueError(
                "VectorEncoder needs mean and scale (D,), weight (F, D) and bias (F,), got "
                f"{tuple(mean.shape)}, {tuple(scale.shape)}, {tuple(weight.shape)} and "
                f"{tuple(bias.shape)}"
            )
        set_field(self, "mean", mean)
        set_field(self, "scale", scale)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    @classmethod
    def create(cls, size: int, features: int) -> VectorEncoder:
        """Create features of mean 0 and variance 1, for vectors of independent such numbers."""
        weight = torch.randn(features, size) / size**0.5
        return cls(torch.zeros(size), torch.ones(size), weight, torch.zeros(features))

    @property
    def needed(self) -> str:
        return f"vectors of {len(self.mean)} numbers"

    def forward(self, context: Tensor, image_shape: Shape) -> Tensor:
        vectors = self._vectors(context)
        if may_read_values(vectors, self) and not vectors.isfinite().all():
            raise ValueError(
                f"vectors must be finite, got {vectors[~vectors.isfinite()][0].item()}"
            )
        standardized = (vectors - self.mean) / self.scale
        features = nn.functional.linear(standardized, self.weight, self.bias)
        return _everywhere(features, image_shape)

    @torch.no_grad()
    def initialize(self, context: Tensor) -> None:
        """Set mean and scale to those of a batch."""
        vectors = self._vectors(context)
        deviation, mean = torch.std_mean(vectors, dim=0, correction=0)
        varies = (vectors != vectors[:1]).any(0)  # a constant's deviation may be rounding
        self.mean.copy_(mean)
        self.scale.copy_(deviation.where(varies, 1.0))

    def _vectors(self, context: Tensor) -> Tensor:
        """Return the vectors in the weights' dtype."""
        vectors = _checked(context, "vectors", 2)
        if vectors.shape[1:] != self.mean.shape:
            raise ValueError(
                f"vectors must have shape (B, {len(self.mean)}), got {tuple(vectors.shape)}"
            )
        return vectors.to(self.weight.dtype)


class ImageEncoder(ContextEncoder):
    """features = network(repeat(context / levels - 1/2)).

    Each pixel of a smaller context is repeated as often as the image's size asks for. Adds the
    network's weights to a model.

    Args:
        levels: number of values of a context's channel.
        network: `(B, K, H, W)` to features `(B, F, H, W)`.

    Raises:
        ValueError: on use, contexts that are not `(B, K, h, w)`, whose height and width do not
            divide the image's by the same factor, or with values outside 0 ... levels - 1.

    Numerics: on a CUDA device in training values are not read; those outside give NaN.
    """

    def __init__(self, levels: int, network: nn.Module) -> None:
        super().__init__()
        self.levels = checked_levels(levels, self)
        self.network = network

    @property
    def needed(self) -> str:
        return f"images of {self.levels} levels"

    def forward(self, context: Tensor, image_shape: Shape) -> Tensor:
        images = _checked(context, "context images", 4)
        if images.dtype in UNSIGNED:  # for which torch has no comparisons on a CPU
            images = images.to(torch.int64)
        valid = (images >= 0) & (images <= self.levels - 1)
        may_read = may_read_values(images, self)
        if may_read and not valid.all():
            raise ValueError(
                f"context images must lie in 0 ... {self.levels - 1}, got "
                f"{images[~valid][0].item()}"
            )
        weight = next(self.network.parameters(), None)
        centred = images.to(torch.get_default_dtype() if weight is None else weight.dtype)
        if not may_read:
            centred = centred.where(valid, torch.nan)
        return self.network(_repeated(centred / self.levels - 0.5, image_shape))


def _checked(context: Any, name: str, axes: int) -> Tensor:
    """Return a context after checks of its kind and number of axes."""
    if not isinstance(context, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(context).__name__}")
    if context.is_complex():
        raise TypeError(f"{name} must be real numbers, got {context.dtype}")
    if context.ndim != axes:
        needed = {1: "(B,)", 2: "(B, D)", 4: "(B, channels, height, width)"}[axes]
        raise ValueError(f"{name} must have shape {needed}, got {tuple(context.shape)}")
    return context


def _everywhere(features: Tensor, image_shape: Shape) -> Tensor:
    """Return features `(B, F)` at each pixel: `(B, F, H, W)`."""
    return features[:, :, None, None].expand(-1, -1, *image_shape[1:])


def _repeated(images: Tensor, image_shape: Shape) -> Tensor:
    """Return images `(B, K, h, w)` with pixels repeated to `(B, K, H, W)`."""
    (height, width), (own_height, own_width) = image_shape[1:], images.shape[2:]
    if (height, width) == (own_height, own_width):
        return images
    factor = height // own_height if own_height else 0
    if (factor * own_height, factor * own_width) != (height, width):
        raise ValueError(
            f"context images must have the size {height}x{width} of the images divided by a whole "
            f"number, got {own_height}x{own_width}"
        )
    return images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
