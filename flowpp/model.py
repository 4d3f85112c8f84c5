"""Flow++: a dequantizer and a flow, and optionally an augmenter and an encoder of contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .augmentation import Augmenter
from .bijectors.bijector import Bijector
from .bijectors.chain import Chain
from .bijectors.data_logit import DataLogit
from .bijectors.first_channels import FirstChannels
from .context import ContextEncoder
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

    With an augmenter z = flow(x + u, e), and log q(e|x + u) is subtracted too, in expectation over
    e. Noise then has the augmenter's channels after those of the image.

    With a context encoder the model is conditional, P(x|context): each image comes with a context,
    and dequantizer, augmenter and flow all get the features that the encoder makes of it.

    Args:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z; from images and e, in this order on the channel axis,
            with an augmenter.
        augmenter: channels e and log q(e|x + u); None without.
        context_encoder: contexts to features `(B, F, H, W)`; None for an unconditional model.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels, or an
            augmenter for another number.
    """

    image_shape: Shape | None = None
    """(channels, height, width) of the images, others being refused; None accepts any that the
    layers do. `flowpp.build_model` sets it."""

    context_spec: Any = None
    """`flowpp.config.context_spec.ContextSpec` of a conditional model's contexts, which
    `flowpp.build_model` sets; None if unknown, or without contexts."""

    _latent_shape: tuple[Shape, Shape] | None = None
    """The last `image_shape` that `latent_shape` was computed for, and its latents' shape."""

    def __init__(
        self,
        dequantizer: Dequantizer,
        flow: Bijector,
        augmenter: Augmenter | None = None,
        context_encoder: ContextEncoder | None = None,
    ) -> None:
        super().__init__()
        first = _first(flow)
        if isinstance(first, DataLogit) and first.levels != dequantizer.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {dequantizer.levels} levels, "
                f"got {first.levels}"
            )
        if augmenter is not None and augmenter.levels != dequantizer.levels:
            raise ValueError(
                f"FlowPlusPlus needs an augmenter for the dequantizer's {dequantizer.levels} "
                f"levels, got {augmenter.levels}"
            )
        self.dequantizer = dequantizer
        self.flow = flow
        self.augmenter = augmenter
        self.context_encoder = context_encoder
        self.initialized = False
        """Whether the weights are more than fresh: data-dependent initialization, which training
        begins with, is for fresh ones only. Set by it and by loading all weights; set it yourself
        after loading some of them."""
        self.register_load_state_dict_post_hook(_mark_initialized)

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the noise that `elbo` needs for images of this shape, `(..., C, H, W)`.

        It has that shape, with the augmenter's channels, if there is one, after the image's.
        """
        noise = self.dequantizer.draw_noise(shape, dtype=dtype, device=device, generator=generator)
        if self.augmenter is None:
            return noise
        own = self.augmenter.draw_noise(shape, dtype=dtype, device=device, generator=generator)
        return torch.cat([noise, own], dim=-3)

    def round_noise(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert noise of `draw_noise` to another dtype, such that `elbo` accepts it."""
        if self.augmenter is None:
            return self.dequantizer.round_noise(noise, dtype)
        extra = self.augmenter.channels
        images, own = noise.split([noise.shape[-3] - extra, extra], dim=-3)
        return torch.cat([self.dequantizer.round_noise(images, dtype), own.to(dtype)], dim=-3)

    def features(self, context: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        """Return the features `(B, F, H, W)` of contexts; None for an unconditional model.

        Args:
            context: one for each image, as `elbo` needs.
            shape: `(B, C, H, W)` of the images.

        Raises:
            TypeError: a context that is not a tensor of numbers.
            ValueError: no context for a conditional model, one for an unconditional model, another
                number of contexts than of images, or a context that does not fit.
        """
        encoder = self.context_encoder
        if encoder is None:
            if context is not None:
                got = f"a {type(context).__name__} of shape {tuple(getattr(context, 'shape', ()))}"
                raise ValueError(f"context must be None, as the model is unconditional; got {got}")
            return None
        if context is None:
            raise ValueError(
                f"context must be given, as the model is conditional: {encoder.needed}; got none"
            )
        features = encoder(context, shape[1:])
        if features.shape[0] != shape[0]:
            raise ValueError(
                f"context must be given for each of the {shape[0]} images, got {features.shape[0]}"
            )
        return features

    def flow_input(
        self, x: Tensor, noise: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the flow's input for integer images, and log q `(B,)`.

        They are x + u and log q(u|x); with an augmenter (x + u, e) and log q(u|x) + log q(e|x+u).
        A conditional model needs the `features` of the images' contexts.

        Raises:
            ValueError: noise of another shape than `draw_noise` returns; as the dequantizer.
        """
        # A dequantizer of one's own need not take features where there are none.
        given = () if features is None else (features,)
        if self.augmenter is None:
            u, log_q = self.dequantizer.sample(x, noise, *given)
            return x.to(u.dtype) + u, log_q
        check_noise_tensor(noise, x, self.augmenter.channels)
        u, log_q = self.dequantizer.sample(x, noise[:, : x.shape[1]], *given)
        dequantized = x.to(u.dtype) + u
        e, log_q_of_e = self.augmenter.sample(dequantized, noise[:, x.shape[1] :], features)
        return torch.cat([dequantized, e], dim=1), log_q + log_q_of_e

    def augmented_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of noise and of the flow's input for images `(..., C, H, W)`."""
        extra = 0 if self.augmenter is None else self.augmenter.channels
        return (*shape[:-3], shape[-3] + extra, *shape[-2:])

    def elbo(self, x: Tensor, noise: Tensor, context: Tensor | None = None) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: `(B, C, H, W)`, integers 0 ... levels - 1 of any dtype.
            noise: from `draw_noise`, of the weights' dtype: `(B, C, H, W)`, with an augmenter
                `(B, C + its channels, H, W)`.
            context: labels `(B,)`, vectors `(B, D)` or images `(B, K, h, w)` of a conditional
                model, see `flowpp.context`; None for an unconditional one.

        Raises:
            RuntimeError: a transform of torch.func, such as vmap, computes the call.
            TypeError: images or noise that are not tensors, or noise of another dtype.
            ValueError: images of another shape, device, or with values that are not integers
                0 ... levels - 1; noise of another shape or device. The message says what to do.
            ValueError: as `features`.
        """
        self._check(x, noise, context)
        features = self.features(context, x.shape)
        given, log_q = self.flow_input(x, noise, features)
        z, log_det = self.flow(given, features)
        return Elbo(log_q, log_det, log_normal(z))

    def forward(self, x: Tensor, noise: Tensor, context: Tensor | None = None) -> Elbo:
        """Call `elbo`; hooks and data-parallel wrappers use this method."""
        return self.elbo(x, noise, context)

    def encode(self, x: Tensor, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Map integer images x to z, `(B, C', H', W')`, which holds the augmentation e too.

        Raises as `elbo`.
        """
        self._check(x, noise, context)
        features = self.features(context, x.shape)
        z, _ = self.flow(self.flow_input(x, noise, features)[0], features)
        return z

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images. The
        channels of an augmentation are dropped.
        """
        self._check_latents(z, context)
        return self.decode_unclipped(z, context).clamp(0, self.levels)

    def decode_unclipped(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map z to x + u as the flow's inverse has it, without any checks; as `decode`."""
        features = None
        if self.context_encoder is not None or context is not None:
            features = self.features(context, (len(z), *self._decoded_shape(z)))
        x, _ = self.flow.inverse(z, features)
        return x if self.augmenter is None else x[:, : -self.augmenter.channels]

    def decode_images(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map z to integer images: invert the flow, and round down to 0 ... levels - 1.

        Raises:
            TypeError: latents that are not a tensor of the weights' dtype.
            ValueError: latents of another shape or device; a context as `features`.
            NonFiniteImageError: a latent or a pixel is NaN or infinite.
        """
        self._check_latents(z, context)
        check_finite(z, "latents")
        return pixels(self.decode_unclipped(z, context), self.levels)

    @property
    def latent_shape(self) -> Shape | None:
        """(C', H', W') of z; None without `image_shape`."""
        shape = self.image_shape
        if shape is None:
            return None
        if self._latent_shape is None or self._latent_shape[0] != shape:
            self._latent_shape = shape, self.latent_shape_of(shape)
        return self._latent_shape[1]

    def latent_shape_of(self, shape: Shape) -> Shape:
        """Return (C', H', W') of z for images of this shape, (C, H, W)."""
        channels, height, width = self.augmented_shape(shape)
        return self.flow.output_shape((channels, height, width))

    def _decoded_shape(self, z: Tensor) -> Shape:
        """Return (channels, height, width) of the image of latents."""
        channels, height, width = z.shape[1:]
        return self.image_shape or self.flow.output_shape((channels, height, width), inverse=True)

    def _check(self, x: Tensor, noise: Tensor, context: Tensor | None) -> None:
        """Require images and noise that fit; values are checked by the dequantizer."""
        refuse_transforms()
        check_image_tensor(x, self.levels, self.image_shape)
        check_noise_tensor(noise, x, 0 if self.augmenter is None else self.augmenter.channels)
        like = next(self.parameters(), None)
        if like is None:  # no weights, or a replica of `DataParallel`
            return
        check_same_device(x, like.device)
        check_same_device(noise, like.device, "noise")
        check_same_dtype(noise, like.dtype, "noise")
        if isinstance(context, Tensor):
            check_same_device(context, like.device, "context")

    def _check_latents(self, z: Tensor, context: Tensor | None) -> None:
        """Require latents that fit; their values are checked on the way to pixels."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return
        refuse_transforms()
        check_latent_tensor(z, self.latent_shape)
        like = next(self.parameters(), None)
        if like is not None:
            check_same_device(z, like.device, "latents")
            check_same_dtype(z, like.dtype, "latents")
            if isinstance(context, Tensor):
                check_same_device(context, like.device, "context")

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
    while True:
        if isinstance(flow, Chain) and len(flow.bijectors):
            flow = flow.bijectors[0]
        elif isinstance(flow, FirstChannels):
            flow = flow.bijector
        else:
            return flow
