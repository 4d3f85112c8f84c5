"""A bijector of the first channels; the others are unchanged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector


@dataclass(frozen=True, eq=False)
class FirstChannels(Bijector):
    """(a, b) -> (bijector(a), b), where a are the first `channels` channels.

    In an augmented flow, a is the image, whose range is mapped to the real line, and b the
    augmentation, which is on the real line already.

    Attributes:
        bijector: maps the first channels, and must keep their shape.
        channels: number of them, at least 1.

    Raises:
        ValueError: fewer than 1 channel, an input with fewer channels than that, or a bijector
            that changes the shape.
    """

    bijector: Bijector
    channels: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"FirstChannels needs at least 1 channel, got {self.channels}")

    def check_fields(self, x: Array, owner: str) -> None:
        if x.shape[1] < self.channels:
            raise ValueError(f"{owner} needs at least {self.channels} channels, got {x.shape[1]}")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = self._split(x)
        y, log_det = self.bijector.forward(a, context)
        return _join(y, a, b), log_det

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = self._split(y)
        x, log_det = self.bijector.inverse(a, context)
        return _join(x, a, b), log_det

    def initialize(self, x: Array, context: Array | None = None) -> tuple[FirstChannels, Array]:
        """Fit the bijector to the first channels."""
        a, b = self._split(x)
        bijector, y = self.bijector.initialize(a, context)
        return dataclasses.replace(self, bijector=bijector), _join(y, a, b)

    def _split(self, x: Array) -> tuple[Array, Array]:
        return x[:, : self.channels], x[:, self.channels :]


def _join(mapped: Array, a: Array, b: Array) -> Array:
    if mapped.shape != a.shape:
        raise ValueError(
            f"FirstChannels needs a bijector that keeps the shape {a.shape}, got {mapped.shape}"
        )
    return np.concatenate([mapped, b], axis=1)
