"""A bijector of the first channels; the others are unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector


class FirstChannels(Bijector):
    """(a, b) -> (bijector(a), b), where a are the first `channels` channels.

    In an augmented flow, a is the image, whose range is mapped to the real line, and b the
    augmentation, which is on the real line already.

    Args:
        bijector: maps the first channels, and must keep their shape.
        channels: number of them, at least 1.

    Raises:
        ValueError: fewer than 1 channel, an input with fewer channels than that, or a bijector
            that changes the shape.
    """

    def __init__(self, bijector: Bijector, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"FirstChannels needs at least 1 channel, got {channels}")
        self.bijector = bijector
        self.channels = channels

    def check_fields(self, x: Tensor, owner: str) -> None:
        if x.shape[1] < self.channels:
            raise ValueError(f"{owner} needs at least {self.channels} channels, got {x.shape[1]}")

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._split(x)
        y, log_det = self.bijector(a, context)
        return _join(y, a, b), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._split(y)
        x, log_det = self.bijector.inverse(a, context)
        return _join(x, a, b), log_det

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.channels], x[:, self.channels :]


def _join(mapped: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if mapped.shape != a.shape:
        raise ValueError(
            f"FirstChannels needs a bijector that keeps the shape {tuple(a.shape)}, "
            f"got {tuple(mapped.shape)}"
        )
    return torch.cat([mapped, b], dim=1)
