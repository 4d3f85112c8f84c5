"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .bijectors.bijector import Bijector
from .bijectors.chain import Chain
from .bijectors.data_logit import DataLogit
from .dequantization import Dequantizer
from .kernels.tracing import refuse_transforms
from .objective import Elbo, log_normal
from .runtime.image_checks import (
    Shape,
    check_image_tensor,
    check_latent_tensor,
    check_noise_tensor,
    check_same_device,
    check_same_dtype,
)
from .runtime.image_tensors import check_finite, pixels


class FlowPlusPlus(nn.Module):
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    Args:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels.
    """

    image_shape: Shape | None = None
    """(channels, height, width) of the images, others being refused; None accepts any that the
    layers do. `flowpp.build_model` sets it."""

    _latent_shape: tuple[Shape, Shape] | None = None
    """The last `image_shape` that `latent_shape` was computed for, and its latents' shape."""

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
        begins with, is for fresh ones only. Set by it and by loading all weights; set it yourself
        after loading some of them."""
        self.register_load_state_dict_post_hook(_mark_initialized)

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def elbo(self, x: Tensor, noise: Tensor) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: `(B, C, H, W)`, integers 0 ... levels - 1 of any dtype.
            noise: `(B, C, H, W)`, from `dequantizer.draw_noise`, of the weights' dtype.

        Raises:
            RuntimeError: a transform of torch.func, such as vmap, computes the call.
            TypeError: images or noise that are not tensors, or noise of another dtype.
            ValueError: images of another shape, device, or with values that are not integers
                0 ... levels - 1; noise of another shape or device. The message says what to do.
        """
        self._check(x, noise)
        u, log_q = self.dequantizer.sample(x, noise)
        z, log_det = self.flow(x.to(u.dtype) + u)
        return Elbo(log_q, log_det, log_normal(z))

    def forward(self, x: Tensor, noise: Tensor) -> Elbo:
        """Call `elbo`; hooks and data-parallel wrappers use this method."""
        return self.elbo(x, noise)

    def encode(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map integer images x to z, `(B, C', H', W')`; raises as `elbo`."""
        self._check(x, noise)
        u, _ = self.dequantizer.sample(x, noise)
        z, _ = self.flow(x.to(u.dtype) + u)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images.
        """
        self._check_latents(z)
        x, _ = self.flow.inverse(z)
        return x.clamp(0, self.levels)

    def decode_images(self, z: Tensor) -> Tensor:
        """Map z to integer images: invert the flow, and round down to 0 ... levels - 1.

        Raises:
            TypeError: latents that are not a tensor of the weights' dtype.
            ValueError: latents of another shape or device.
            NonFiniteImageError: a latent or a pixel is NaN or infinite.
        """
        self._check_latents(z)
        check_finite(z, "latents")
        x, _ = self.flow.inverse(z)
        return pixels(x, self.levels)

    @property
    def latent_shape(self) -> Shape | None:
        """(C', H', W') of z; None without `image_shape`."""
        shape = self.image_shape
        if shape is None:
            return None
        if self._latent_shape is None or self._latent_shape[0] != shape:
            self._latent_shape = shape, self.flow.output_shape(shape)
        return self._latent_shape[1]

    def _check(self, x: Tensor, noise: Tensor) -> None:
        """Require images and noise that fit; values are checked by the dequantizer."""
        refuse_transforms()
        check_image_tensor(x, self.levels, self.image_shape)
        check_noise_tensor(noise, x)
        like = next(self.parameters(), None)
        if like is None:  # no weights, or a replica of `DataParallel`
            return
        check_same_device(x, like.device)
        check_same_device(noise, like.device, "noise")
        check_same_dtype(noise, like.dtype, "noise")

    def _check_latents(self, z: Tensor) -> None:
        """Require latents that fit; their values are checked on the way to pixels."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return
        refuse_transforms()
        check_latent_tensor(z, self.latent_shape)
        like = next(self.parameters(), None)
        if like is not None:
            check_same_device(z, like.device, "latents")
            check_same_dtype(z, like.dtype, "latents")

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


def _mark_initialized(model: nn.Module, keys: Any) -> None:
    """Mark a model whose tensors have all been loaded."""
    if not keys.missing_keys:
        model.initialized = True  # type: ignore[assignment]


def _first(flow: nn.Module) -> nn.Module:
    """Return the bijector that the image enters first, inside any nested chains."""
    while isinstance(flow, Chain) and len(flow.bijectors):
        flow = flow.bijectors[0]
    return flow
