"""Variational data augmentation: channels e ~ q(e|x) that a flow models together with the image.

A flow has as many dimensions everywhere as its input has. Extra channels e widen it; the bound
log p(x, e) - log q(e|x), in expectation over q at most log p(x), pays for them (VFlow eq. 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijectors.bijector import Bijector
from .bijectors.checks import checked_levels, may_read_values, owner_name
from .dequantization import beside_features
from .objective import log_normal
from .runtime.image_checks import check_image_tensor, looks_uniform


class Augmenter(nn.Module):
    """e = flow(eps; c(x)), eps ~ N(0, I), log q(e|x) = log N(eps) - log|det de/deps|.

    The images are dequantized: q sees the noise that was added to them.

    Args:
        levels: number of values of a channel; images are within [0, levels].
        channels: number of channels of e.
        split: puts halves of the image on channels before the context network.
        context_network: `split(x / levels - 1/2)` to context features c(x); in a conditional
            model `split` gets the features of the image's context too, as further channels.
        flow: conditional bijector from noise to e, on the real line; every coupling receives
            c(x).

    Raises:
        ValueError: fewer than 2 levels, or fewer than 1 channel.

    Source: Chen, Lu, Chenli, Zhu and Tian 2020 ("VFlow"), section 3. The released VFlow code has a
    sigmoid at the end of this flow; then the flow of (x, e), on the whole real line, gives
    probability to values that e never has.
    """

    def __init__(
        self,
        levels: int,
        channels: int,
        split: Bijector,
        context_network: nn.Module,
        flow: Bijector,
    ) -> None:
        super().__init__()
        self.levels = checked_levels(levels, self)
        if not channels >= 1:
            raise ValueError(f"Augmenter needs at least 1 channel, got {channels}")
        self.channels = channels
        self.split = split
        self.context_network = context_network
        self.flow = flow

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw standard normal noise eps for images of this shape, `(..., C, H, W)`."""
        own = (*shape[:-3], self.channels, *shape[-2:])
        return torch.randn(own, dtype=dtype, device=device, generator=generator)

    def context(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """Compute c(x) of dequantized images, and of the features of their contexts."""
        centred = beside_features(x / self.levels - 0.5, features)
        return self.context_network(self.split(centred)[0])

    def sample(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return e, `(B, channels, H, W)`, and log q(e|x) `(B,)`, from standard normal noise.

        In a conditional model `context` is `(B, F, H, W)`, the features of each image's context.

        Raises:
            TypeError: images or noise that are not tensors of numbers.
            ValueError: x is not a batch of images, or the noise is not of e's shape or is uniform.
        """
        self._check(x, noise, "noise")
        if may_read_values(noise, self) and looks_uniform(noise):
            raise ValueError(
                f"{owner_name(self)} needs standard normal noise, as of draw_noise, got numbers "
                "that are all between 0 and 1"
            )
        e, log_det = self.flow(noise, self.context(x, context))
        return e, log_normal(noise) - log_det

    def log_prob(self, x: Tensor, e: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute log q(e|x) `(B,)` for given e."""
        self._check(x, e, "e")
        noise, log_det = self.flow.inverse(e, self.context(x, context))
        return log_normal(noise) + log_det

    def _check(self, x: Tensor, values: Tensor, name: str) -> None:
        """Require dequantized images, and noise or e of their size."""
        check_image_tensor(x, self.levels)
        needed = (x.shape[0], self.channels, *x.shape[2:])
        if values.shape != needed:
            raise ValueError(
                f"{owner_name(self)} needs {name} of shape {needed}, got {tuple(values.shape)}"
            )
