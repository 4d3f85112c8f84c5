"""A data set in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images.

    Args:
        name: Name of the data set and its version, as shown beside results.
        train: Training images, uint8 of shape (N, C, H, W), values in 0 .. levels-1.
        test: Held-out images, likewise.
        levels: Number of values of a channel.
        skipped: Reasons for files left out, one per file.

    Raises:
        TypeError: An array that is not uint8.
        ValueError: An array that is empty, of another shape, or with values outside the levels.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    levels: int
    skipped: tuple[str, ...] = ()
    sha256: str = field(init=False)
    """Hash of shapes and values, training images first; recorded with each run."""

    def __post_init__(self) -> None:
        """Check both arrays and hash them."""
        digest = hashlib.sha256()
        for split in ("train", "test"):
            images = getattr(self, split)
            who = f"{self.name}: {split} images"
            if images.dtype != np.uint8:
                raise TypeError(f"{who} must be uint8, got {images.dtype}")
            if images.ndim != 4 or images.size == 0:
                raise ValueError(
                    f"{who} must be non-empty of shape (N, C, H, W), got {images.shape}"
                )
            if images.shape[1:] != self.train.shape[1:]:
                raise ValueError(
                    f"{who} must have the training images' shape {self.train.shape[1:]}, "
                    f"got {images.shape[1:]}"
                )
            if images.max() >= self.levels:
                raise ValueError(f"{who} must lie in 0..{self.levels - 1}, got {images.max()}")
            digest.update(repr((split, images.shape)).encode())
            digest.update(np.ascontiguousarray(images).data)
        object.__setattr__(self, "sha256", digest.hexdigest())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape[1:]
