"""Images of any size as tiles of a model's size, row by row.

The last tiles of a row and of a column are filled up with the last column and row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Tiling:
    """Tiles of several images.

    Args:
        tile: (height, width) of a tile.
        sizes: (height, width) of each image.
    """

    tile: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The number of tiles of the images up to each one, itself included."""
        return tuple(
            itertools.accumulate(down * along for down, along in map(self._grid, self.sizes))
        )

    @property
    def count(self) -> int:
        """Number of tiles of all images."""
        return self.ends[-1] if self.ends else 0

    def tiles_of(self, image: int) -> range:
        """Return the places of an image's tiles."""
        return range(self.ends[image - 1] if image else 0, self.ends[image])

    def split(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Cut images (C, H, W) of these sizes into tiles (count, C, height, width)."""
        height, width = self.tile
        parts = []
        for image in images:
            channels, *size = image.shape
            down, along = self._grid((size[0], size[1]))
            filling = (0, down * height - size[0]), (0, along * width - size[1])
            whole = np.pad(image, ((0, 0), *filling), mode="edge")
            grid = whole.reshape(channels, down, height, along, width)
            parts.append(grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels, height, width))
        return np.concatenate(parts)

    def joined(self, image: int, tiles: np.ndarray) -> np.ndarray:
        """Return an image (C, H, W) from its tiles."""
        size, channels = self.sizes[image], tiles.shape[1]
        down, along = self._grid(size)
        grid = tiles.reshape(down, along, channels, *self.tile).transpose(2, 0, 3, 1, 4)
        whole = grid.reshape(channels, down * self.tile[0], along * self.tile[1])
        return np.ascontiguousarray(whole[:, : size[0], : size[1]])

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the number of tiles in a column and in a row of an image."""
        return -(-size[0] // self.tile[0]), -(-size[1] // self.tile[1])
