"""Dequantization: noise u in [0, 1) that turns integer images into densities.

Noise from q(u|x) is added to an integer image x; Jensen's inequality then bounds the probability
of x by the density of x + u (Flow++ eqs. 5-8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijectors.bijector import Bijector
from .bijectors.checks import checked_levels, may_read_values, owner_name
from .objective import log_normal
from .runtime.image_checks import (
    check_image_tensor,
    check_noise_tensor,
    comparable,
    looks_uniform,
    values_error,
)
from .truncated_normal import below_one, log_density, quantile


class Dequantizer(nn.Module):
    """Noise u for integer images, and log q(u|x).

    Args:
        levels: number of values of a channel; images hold integers 0 ... levels - 1.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = checked_levels(levels, self)

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the noise that `sample` needs for images of this shape."""
        raise NotImplementedError

    def sample(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return u of x's shape and log q(u|x) `(B,)`, from noise drawn by `draw_noise`.

        In a conditional model `context` is `(B, F, H, W)`, the features of each image's context.
        """
        raise NotImplementedError

    def log_prob(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute log q(u|x) `(B,)` for given u."""
        raise NotImplementedError

    def round_noise(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert noise from `draw_noise` to another dtype, such that `sample` accepts it."""
        return noise.to(dtype)

    def check_images(self, x: Tensor) -> Tensor | None:
        """Require integer images within the levels.

        Returns:
            None. Where the values may not be read (see `may_read_values`): which images are valid,
            booleans `(B, 1, 1, 1)`; the noise of the others must become NaN.

        Raises:
            TypeError: not a tensor of numbers.
            ValueError: the wrong number of axes, or a value that is not an integer within
                0 ... levels - 1; the message shows the first one, and what to do if that is known.
        """
        check_image_tensor(x, self.levels)
        values = comparable(x)
        valid = (values >= 0) & (values <= self.levels - 1)
        if x.is_floating_point():
            valid &= x == x.round()
        if not may_read_values(x, self):
            return valid.flatten(1).all(1).reshape(-1, 1, 1, 1)
        if not valid.all():
            raise values_error(x, valid, self.levels)
        return None

    def check_noise(self, noise: Tensor, x: Tensor) -> None:
        """Require floating-point noise of the images' shape; its values are not checked.

        Raises:
            TypeError: the noise is not a tensor of float32 or float64.
            ValueError: the noise has another shape.
        """
        check_noise_tensor(noise, x)

    def check_uniform_noise(self, noise: Tensor, x: Tensor) -> Tensor:
        """Require integer images, and noise in [0, 1) of their shape.

        Returns:
            The noise; NaN for images or noise that are wrong, where values may not be read.

        Raises:
            TypeError, ValueError: as `check_images` and `check_noise`; a value outside [0, 1).
        """
        valid = self.check_images(x)
        self.check_noise(noise, x)
        inside = _in_unit_interval(noise)
        if valid is not None:
            return _or_nan(noise, valid & inside)
        if not inside.all():
            raise ValueError(
                f"{owner_name(self)} needs noise in [0, 1), got {noise[~inside][0].item()}"
            )
        return noise


class _UniformNoiseDequantizer(Dequantizer):
    """Dequantizer whose noise is uniform in [0, 1)."""

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw uniform noise in [0, 1) for images of this shape."""
        return torch.rand(shape, dtype=dtype, device=device, generator=generator)

    def round_noise(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert noise to another dtype without rounding it up to 1.

        In a narrower dtype the noise is at most the largest number below 1; rounding would turn up
        to 1 in 2^25 of float64's draws into 1 in float32.
        """
        return below_one(noise, dtype)


class UniformDequantizer(_UniformNoiseDequantizer):
    """u ~ Uniform[0, 1), log q(u|x) = 0.

    Source: Flow++ section 3.1; Theis, van den Oord and Bethge 2016.
    """

    def sample(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the noise itself, and zeros `(B,)`; a context has no influence.

        Raises:
            ValueError: x is not a batch of integer images, or the noise has another shape or a
                value outside [0, 1).
        """
        noise = self.check_uniform_noise(noise, x)
        return noise, noise.new_zeros(noise.shape[0])

    def log_prob(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute log q(u|x) `(B,)`: 0 inside the unit cube, -inf outside, NaN where u has one."""
        valid = self.check_images(x)
        self.check_noise(u, x)
        u = _or_nan(u, valid)
        inside = _in_unit_interval(u).flatten(1).all(1)
        log_q = torch.where(inside, 0.0, -torch.inf).to(u.dtype)
        return torch.where(u.isnan().flatten(1).any(1), torch.nan, log_q)


def _in_unit_interval(u: Tensor) -> Tensor:
    return (u >= 0) & (u < 1)


def _or_nan(noise: Tensor, valid: Tensor | None) -> Tensor:
    """Return the noise, NaN where it is not valid; None stands for valid everywhere."""
    return noise if valid is None else noise.masked_fill(~valid, torch.nan)


def beside_features(centred: Tensor, features: Tensor | None) -> Tensor:
    """Return images with the features of their contexts, if any, as further channels."""
    return centred if features is None else torch.cat([centred, features], dim=1)


class VariationalDequantizer(Dequantizer):
    """u = flow(eps; c(x)), eps ~ N(0, I), log q(u|x) = log N(eps) - log|det du/deps|.

    Args:
        levels: number of values of a channel.
        split: puts halves of the image on channels before the context network.
        context_network: `split(x / levels - 1/2)` to context features c(x); in a conditional
            model `split` gets the features of the image's context too, as further channels.
        flow: conditional bijector from noise to (0, 1); every coupling receives c(x).

    Source: Flow++ eqs. 9-12.
    """

    def __init__(
        self, levels: int, split: Bijector, context_network: nn.Module, flow: Bijector
    ) -> None:
        super().__init__(levels)
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
        """Draw standard normal noise for images of this shape."""
        return torch.randn(shape, dtype=dtype, device=device, generator=generator)

    def context(self, x: Tensor, dtype: torch.dtype, features: Tensor | None = None) -> Tensor:
        """Compute c(x) of integer images, and of the features of their contexts, in `dtype`."""
        centred = beside_features(x.to(dtype) / self.levels - 0.5, features)
        return self.context_network(self.split(centred)[0])

    def sample(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return u in (0, 1), shape of x, and log q(u|x) `(B,)`, from standard normal noise.

        Raises:
            TypeError: images or noise that are not tensors of numbers.
            ValueError: x is not a batch of integer images, or the noise has another shape or is
                uniform.
        """
        valid = self.check_images(x)
        self.check_noise(noise, x)
        if valid is None and looks_uniform(noise):
            raise ValueError(
                f"{owner_name(self)} needs standard normal noise, as of draw_noise, got numbers "
                "that are all between 0 and 1"
            )
        c = self.context(x, noise.dtype, context)
        u, log_det = self.flow(_or_nan(noise, valid), c)
        return u, log_normal(noise) - log_det

    def log_prob(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute log q(u|x) `(B,)` for given u in (0, 1)."""
        valid = self.check_images(x)
        self.check_noise(u, x)
        c = self.context(x, u.dtype, context)
        noise, log_det = self.flow.inverse(_or_nan(u, valid), c)
        return log_normal(noise) + log_det


class TruncatedNormalDequantizer(_UniformNoiseDequantizer):
    """u ~ N(m(x), s(x)^2) truncated to [0, 1), independently for each number of the image.

    Args:
        levels: number of values of a channel.
        network: `x / levels - 1/2` to m - 1/2 and log s, `(B, C, H, W) -> (B, 2 C, H, W)`, those
            of m first; in a conditional model it gets the features of the image's context too, as
            further channels.

    Source: the alternative between uniform noise and a flow in Hoogeboom, Cohen and Tomczak 2020,
    who truncate a logistic distribution.
    """

    def __init__(self, levels: int, network: nn.Module) -> None:
        super().__init__(levels)
        self.network = network

    def distribution(
        self, x: Tensor, dtype: torch.dtype, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute means and log-scales of u for integer images, in float64 and of x's shape.

        Raises:
            ValueError: a network whose output has another shape than `(B, 2 C, H, W)`.
        """
        output = self.network(beside_features(x.to(dtype) / self.levels - 0.5, context))
        needed = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        if output.shape != needed:
            raise ValueError(
                f"{owner_name(self)} needs parameters of shape {needed} from its network, "
                f"got {tuple(output.shape)}"
            )
        mean, log_scale = output.double().chunk(2, dim=1)
        return 0.5 + mean, log_scale

    def sample(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return u in [0, 1), shape of x, and log q(u|x) `(B,)`, from uniform noise.

        Raises:
            ValueError: x is not a batch of integer images, or the noise has another shape or a
                value outside [0, 1).
        """
        noise = self.check_uniform_noise(noise, x)
        parameters = self.distribution(x, noise.dtype, context)
        u = quantile(noise.double(), *parameters)
        log_q = log_density(u, *parameters).flatten(1).sum(1)
        return below_one(u, noise.dtype), log_q.to(noise.dtype)

    def log_prob(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute log q(u|x) `(B,)`: -inf outside the unit cube, NaN where u has one."""
        return self.log_densities(x, u, context).flatten(1).sum(1).to(u.dtype)

    def log_densities(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute the log-density of each number of u, in float64."""
        valid = self.check_images(x)
        self.check_noise(u, x)
        parameters = self.distribution(x, u.dtype, context)
        return log_density(_or_nan(u, valid).double(), *parameters)
