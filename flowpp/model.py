"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .bijectors.bijector import Bijector
from .bijectors.chain import Chain
from .bijectors.data_logit import DataLogit
from .dequantization import Dequantizer
from .objective import Elbo, log_normal
from .runtime.image_tensors import check_finite, pixels


class FlowPlusPlus(nn.Module):
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    Args:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels.
    """

    def __init__(self, dequantizer: Dequantizer, flow: Bijector) -> None:
        super().__init__()
        first = _first(flow)
        if isinstance(first, DataLogit) and first.levels != dequantizer.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {dequantizer.levels} levels, "
                f"got {first.levels}"
            )
        self.dequantizer = dequantizer
        self.flow = flow
        self.initialized = False
        """Whether the weights are more than fresh: data-dependent initialization, which training
        begins with, is for fresh ones only. Set by it and by loading weights."""
        self.register_load_state_dict_post_hook(_mark_initialized)

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def elbo(self, x: Tensor, noise: Tensor) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: `(B, C, H, W)`, integers 0 ... levels - 1 of any dtype.
            noise: `(B, C, H, W)`, from `dequantizer.draw_noise`; its dtype is the dtype of the
                computation.
        """
        u, log_q = self.dequantizer.sample(x, noise)
        z, log_det = self.flow(x.to(u.dtype) + u)
        return Elbo(log_q, log_det, log_normal(z))

    def forward(self, x: Tensor, noise: Tensor) -> Elbo:
        """Call `elbo`; hooks and data-parallel wrappers use this method."""
        return self.elbo(x, noise)

    def encode(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map integer images x to z, `(B, C', H', W')`."""
        u, _ = self.dequantizer.sample(x, noise)
        z, _ = self.flow(x.to(u.dtype) + u)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images.
        """
        x, _ = self.flow.inverse(z)
        return x.clamp(0, self.levels)

    def decode_images(self, z: Tensor) -> Tensor:
        """Map z to integer images: invert the flow, and round down to 0 ... levels - 1.

        Raises:
            NonFiniteImageError: a latent or a pixel is NaN or infinite.
        """
        check_finite(z, "latents")
        x, _ = self.flow.inverse(z)
        return pixels(x, self.levels)

    def _apply(self, fn: Callable[[Tensor], Tensor], *options: bool) -> FlowPlusPlus:
        """Convert or move all tensors, as `to`, `half` and others do.

        Raises:
            TypeError: weights of less than float32.
        """
        dtype = fn(torch.empty(0)).dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"FlowPlusPlus needs weights of float32 or float64, got {dtype}; for networks in "
                "bfloat16 use flowpp.load(run, precision='bfloat16'), "
                "flowpp.config.build.set_compute(model, precision='bfloat16') or "
                "--training.precision bfloat16"
            )
        return super()._apply(fn, *options)


def _mark_initialized(model: nn.Module, _: object) -> None:
    model.initialized = True  # type: ignore[assignment]


def _first(flow: nn.Module) -> nn.Module:
    """Return the bijector that the image enters first, inside any nested chains."""
    while isinstance(flow, Chain) and len(flow.bijectors):
        flow = flow.bijectors[0]
    return flow
