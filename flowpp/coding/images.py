"""Coding of integer images: dequantization, flow and prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowpp.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from flowpp.model import FlowPlusPlus

from .bins import Bins, Precision
from .build import step_of
from .cut_normals import CutNormals
from .normals import Normals, Tails
from .stack import CodingError, Stack
from .steps import Step

SMALLEST_STD = 1e-6
LARGEST_STD = 1e6
"""Limits of the standard deviation of truncated normal noise; outside, lengths are not best."""


@dataclass(frozen=True)
class Coder:
    """Codes batches of images, one after another, with a model.

    Args:
        model: dequantizer and flow, and an augmenter in an augmented model; in float64, on the
            CPU, and in evaluation mode.
        precision: widths of bins.

    Raises:
        TypeError: a model of another dtype or device.
        ValueError: a conditional model.
    """

    model: FlowPlusPlus
    precision: Precision = Precision()

    def __post_init__(self) -> None:
        if self.model.context_encoder is not None:
            raise ValueError("model must be unconditional, got one with a context encoder")
        for tensor in self.model.state_dict().values():
            if tensor.is_floating_point() and tensor.dtype != torch.float64 or not tensor.is_cpu:
                raise TypeError(
                    f"Coder needs a model in float64 on the CPU, got {tensor.dtype} on "
                    f"{tensor.device}: use model.double().cpu()"
                )

    @torch.no_grad()
    def encode(self, stack: Stack, x: Tensor) -> Bins:
        """Push integer images `(B, C, H, W)`; return z, whose bins are on the stack now.

        Raises:
            TooFewBitsError: too few bits on the stack; it is of no more use.
            CodingError: a number that is not finite or too large; likewise.
        """
        # Contiguous as in `decode`: torch may add in another order where the layout differs.
        image = self._dequantized(stack, x.long().contiguous())
        if self.model.augmenter is not None:
            noise = self._pop_prior(stack, self._line(self._extra(x.shape)))
            image = image.joined(self._augmentation(image).encode(stack, noise))
        z = self._flow().encode(stack, image)
        self._push_prior(stack, z, "coded")
        return z

    @torch.no_grad()
    def decode(self, stack: Stack, shape: tuple[int, ...]) -> Tensor:
        """Pop images `(B, C, H, W)`, and restore the stack: the inverse of `encode`.

        Raises:
            CodingError: bits that `encode` did not write with this model.
        """
        flow, outline = self._flow(), self._levels(torch.zeros(shape, dtype=torch.int64))
        if self.model.augmenter is not None:
            outline = outline.joined(self._line(self._extra(shape)))
        image = flow.decode(stack, self._pop_prior(stack, flow.outline(outline), "coded"))
        if self.model.augmenter is not None:
            image, e = image.split(shape[1])
            noise = self._augmentation(image).decode(stack, e)
            self._push_prior(stack, noise)
        x = torch.div(image.numbers, self.precision.per_level, rounding_mode="floor")
        if not (0 <= int(x.min()) and int(x.max()) < self.model.levels):
            raise CodingError(f"pixels must be in 0 ... {self.model.levels - 1}, got others")
        self._return_noise(stack, x, image.numbers - x * self.precision.per_level)
        return x

    def _dequantized(self, stack: Stack, x: Tensor) -> Bins:
        """Pop the noise u, and return the bins of x + u."""
        dequantizer, count = self.model.dequantizer, self.precision.per_level
        if isinstance(dequantizer, VariationalDequantizer):
            noise = self._pop_prior(stack, self._line(x.shape))
            u = self._noise_flow(dequantizer, x).encode(stack, noise).numbers
        elif isinstance(dequantizer, TruncatedNormalDequantizer):
            u = self._numbers(self._normal_noise(dequantizer, x).pop(stack), x)
        else:
            u = self._numbers(stack.pop_uniform(self._sizes(x)), x)
        return self._levels(x * count + u)

    def _return_noise(self, stack: Stack, x: Tensor, u: Tensor) -> None:
        """Push the noise that `_dequantized` has popped."""
        dequantizer, numbers = self.model.dequantizer, u.flatten().numpy()
        if isinstance(dequantizer, VariationalDequantizer):
            noise = self._noise_flow(dequantizer, x).decode(stack, self._levels(u))
            self._push_prior(stack, noise)
        elif isinstance(dequantizer, TruncatedNormalDequantizer):
            self._normal_noise(dequantizer, x).push(stack, numbers)
        else:
            stack.push_uniform(numbers, self._sizes(x))

    def _normal_noise(self, dequantizer: TruncatedNormalDequantizer, x: Tensor) -> CutNormals:
        count = self.precision.per_level
        mean, log_scale = dequantizer.distribution(x, torch.float64)
        std = torch.exp(log_scale).clamp(SMALLEST_STD, LARGEST_STD) * count
        return CutNormals((mean * count).flatten().numpy(), std.flatten().numpy(), count)

    def _sizes(self, x: Tensor) -> np.ndarray:
        """Return the number of bins of each number of uniform noise.

        Raises:
            TypeError: a dequantizer that is not uniform.
        """
        if not isinstance(self.model.dequantizer, UniformDequantizer):
            name = type(self.model.dequantizer).__name__
            raise TypeError(
                f"dequantizer must have uniform, truncated normal or flow noise, got {name}"
            )
        return np.full(x.numel(), self.precision.per_level)

    def _noise_flow(self, dequantizer: VariationalDequantizer, x: Tensor) -> Step:
        context = dequantizer.context(x, torch.float64)
        return step_of(dequantizer.flow, self.precision, context)

    def _augmentation(self, image: Bins) -> Step:
        assert self.model.augmenter is not None
        context = self.model.augmenter.context(image.values)
        return step_of(self.model.augmenter.flow, self.precision, context)

    def _flow(self) -> Step:
        return step_of(self.model.flow, self.precision)

    def _extra(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        assert self.model.augmenter is not None
        return (shape[0], self.model.augmenter.channels, *shape[2:])

    def _levels(self, numbers: Tensor) -> Bins:
        return Bins.of_width(numbers, self.precision.level_width)

    def _line(self, shape: tuple[int, ...]) -> Bins:
        return Bins.of_width(torch.zeros(shape, dtype=torch.int64), self.precision.delta)

    def _numbers(self, numbers: np.ndarray, like: Tensor) -> Tensor:
        return torch.from_numpy(numbers).reshape(like.shape)

    def _push_prior(self, stack: Stack, z: Bins, tails: Tails = "cut") -> None:
        _prior(z, tails).push(stack, z.numbers.flatten().numpy())

    def _pop_prior(self, stack: Stack, outline: Bins, tails: Tails = "cut") -> Bins:
        numbers = _prior(outline, tails).pop(stack)
        return outline.numbered(self._numbers(numbers, outline.numbers))


def _prior(z: Bins, tails: Tails) -> Normals:
    """Return N(0, 1) in bins, whose centres are (k + 1/2) width."""
    widths = z.widths.flatten().numpy()
    return Normals(np.full(widths.shape, -0.5), 1.0 / widths, tails)
