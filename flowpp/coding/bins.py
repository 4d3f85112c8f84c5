"""Numbers rounded to bins, and how wide the bins are: as in `reference.coding.bins`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """Sizes of bins, and of the noise of local bits-back coding.

    Args:
        delta: width of the bins of numbers on the real line.
        per_level: number of bins of [0, 1), the dequantization noise; a power of 2.
        sigma: smallest standard deviation of the noise, in bins.

    Halving delta costs one initial bit per number. A standard deviation of one bin suffices: the
    sum of a normal distribution over all bins depends on the place of its mean by 5e-9 of itself;
    at half a bin by 1 %.
    """

    delta: float = 2.0**-16
    per_level: int = 2**12
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.delta <= 1.0:
            raise ValueError(f"delta must be in (0, 1], got {self.delta}")
        if not (64 <= self.per_level <= 1 << 16 and self.per_level.bit_count() == 1):
            raise ValueError(
                f"per_level must be a power of 2 in 64 ... 65536, got {self.per_level}"
            )
        if not self.sigma >= 0.5:
            raise ValueError(f"sigma must be at least 0.5 bins, got {self.sigma}")

    @property
    def level_width(self) -> float:
        """Width of a bin of the dequantization noise, and of images."""
        return 1.0 / self.per_level


@dataclass(frozen=True, eq=False)
class Bins:
    """Numbers known to a bin: bin k holds k width ... (k + 1) width, and stands for its centre.

    Args:
        numbers: k, int64 `(B, C, H, W)`.
        widths: widths of the bins, float64 of the same shape.
    """

    numbers: Tensor
    widths: Tensor

    @classmethod
    def of_width(cls, numbers: Tensor, width: float) -> Bins:
        """Return bins of one width."""
        return cls(numbers, torch.full(numbers.shape, width, dtype=torch.float64))

    @property
    def values(self) -> Tensor:
        """Centres of the bins, float64.

        They are always contiguous: torch may add in another order where the layout differs.
        """
        return ((self.numbers.double() + 0.5) * self.widths).contiguous()

    def numbered(self, numbers: Tensor) -> Bins:
        """Return bins of the same widths with other numbers."""
        return replace(self, numbers=numbers)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Bins:
        """Apply a map that only moves numbers."""
        return Bins(move(self.numbers.double()).long(), move(self.widths))

    def split(self, channels: int) -> tuple[Bins, Bins]:
        """Return the first `channels` channels, and the others."""
        n, w = self.numbers, self.widths
        return Bins(n[:, :channels], w[:, :channels]), Bins(n[:, channels:], w[:, channels:])

    def joined(self, other: Bins) -> Bins:
        """Return these channels, and those of `other` after them."""
        return Bins(
            torch.cat([self.numbers, other.numbers], dim=1),
            torch.cat([self.widths, other.widths], dim=1),
        )
