"""Noise that turns integer images into densities: uniform, and variational.

An integer image x gets noise u in [0, 1) from q(u|x); Jensen's inequality then bounds the
probability of x by the density of x + u (Flow++ eqs. 5-8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijectors import Bijector
from .objective import log_normal


class Dequantizer(nn.Module):
    """Noise u for integer images, and log q(u|x).

    Args:
        levels: number of grey levels; images hold integers 0 ... levels - 1.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 levels, got {levels}")
        self.levels = int(levels)

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What `sample` needs for images of this shape."""
        raise NotImplementedError

    def sample(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise u of x's shape and log q(u|x) `(B,)`, from what `draw_noise` drew."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """log q(u|x) `(B,)` for given u."""
        raise NotImplementedError

    def round_noise(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """What `draw_noise` drew in one dtype, in another: still noise that `sample` takes."""
        return noise.to(dtype)

    def check_images(self, x: Tensor) -> None:
        """Refuse what is not a batch of integer images within the levels.

        Raises:
            ValueError: wrong rank, a value outside 0 ... levels - 1, not whole, or NaN; the
                message shows the first such value.
        """
        who = type(self).__name__
        if x.ndim != 4:
            raise ValueError(
                f"{who} needs shape (batch, channels, height, width), got {tuple(x.shape)}"
            )
        fine = (x >= 0) & (x <= self.levels - 1)
        if x.is_floating_point():
            fine &= x == x.round()
        if not torch.compiler.is_exporting() and not fine.all():
            raise ValueError(
                f"{who} needs integers within 0 ... {self.levels - 1}, got {x[~fine][0].item()}"
            )

    def check_noise(self, noise: Tensor, x: Tensor) -> None:
        """Refuse noise that does not belong to these images; looks at no values.

        Raises:
            TypeError: not floating-point.
            ValueError: another shape than the images'.
        """
        who = type(self).__name__
        if not noise.is_floating_point():
            raise TypeError(f"{who} needs floating-point noise, got {noise.dtype}")
        if noise.shape != x.shape:
            raise ValueError(
                f"{who} needs noise of shape {tuple(x.shape)}, got {tuple(noise.shape)}"
            )


class UniformDequantizer(Dequantizer):
    """u ~ Uniform[0, 1), log q(u|x) = 0.

    Source: Flow++ section 3.1; Theis, van den Oord and Bethge 2016.
    """

    def draw_noise(
        self,
        shape: torch.Size | tuple[int, ...],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Uniform noise in [0, 1) for images of this shape."""
        return torch.rand(shape, dtype=dtype, device=device, generator=generator)

    def sample(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The noise itself, and zeros `(B,)`.

        Raises:
            ValueError: no integer images, or noise of another shape or outside [0, 1).
        """
        self.check_images(x)
        self.check_noise(noise, x)
        inside = _in_unit_interval(noise)
        if not torch.compiler.is_exporting() and not inside.all():
            raise ValueError(
                f"{type(self).__name__} needs noise in [0, 1), got {noise[~inside][0].item()}"
            )
        return noise, noise.new_zeros(noise.shape[0])

    def round_noise(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """In a narrower dtype the last numbers below 1 would be rounded to it, so it ends there.

        Up to 1 in 2^25 of float64's numbers would become 1 in float32.
        """
        one = torch.ones((), dtype=dtype, device=noise.device)
        return torch.minimum(noise.to(dtype), torch.nextafter(one, one - 1))

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """log q(u|x) `(B,)`: 0 inside the unit cube, -inf outside, NaN where u has one."""
        self.check_images(x)
        self.check_noise(u, x)
        inside = _in_unit_interval(u).flatten(1).all(1)
        log_q = torch.where(inside, 0.0, -torch.inf).to(u.dtype)
        return torch.where(u.isnan().flatten(1).any(1), torch.nan, log_q)


def _in_unit_interval(u: Tensor) -> Tensor:
    return (u >= 0) & (u < 1)


class VariationalDequantizer(Dequantizer):
    """u = flow(eps; c(x)), eps ~ N(0, I), log q(u|x) = log N(eps) - log|det du/deps|.

    Args:
        levels: number of grey levels.
        split: lays halves of the image on channels before the context network sees them.
        context_network: `split(x / levels - 1/2)` to context features c(x).
        flow: conditional bijector from noise to (0, 1), the context given to every coupling.

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
        """Standard normal noise for images of this shape."""
        return torch.randn(shape, dtype=dtype, device=device, generator=generator)

    def context(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Context features c(x) of integer images, computed in `dtype`."""
        centred, _ = self.split(x.to(dtype) / self.levels - 0.5)
        return self.context_network(centred)

    def sample(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """u in (0, 1), shape of x, and log q(u|x) `(B,)`, from standard normal noise.

        Raises:
            ValueError: no integer images, or noise of another shape.
        """
        self.check_images(x)
        self.check_noise(noise, x)
        u, log_det = self.flow(noise, self.context(x, noise.dtype))
        return u, log_normal(noise) - log_det

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """log q(u|x) `(B,)` for given u in (0, 1)."""
        self.check_images(x)
        self.check_noise(u, x)
        noise, log_det = self.flow.inverse(u, self.context(x, u.dtype))
        return log_normal(noise) + log_det
