"""Permutations of pixels to channels whose numbers come out in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.bijectors import Bijector, Checkerboard, ColumnStripes, Squeeze

Order = Callable[[int], np.ndarray]
"""Function of a number of channels that returns which one comes out at each place."""
Change = Callable[[Any], Any]


def order_mistakes() -> Iterator[tuple[str, Change]]:
    """Yield the mistakes in the order of channels: texts, and functions as those of `mistakes`."""
    for kind, slow in (
        (Squeeze, "the channel is the slow index, as in torch's PixelUnshuffle"),
        (Checkerboard, "the channel is the slow index"),
        (ColumnStripes, "the channel is the slow index"),
    ):
        name = f"{kind.__name__} has the right numbers in another order: "
        yield f"{name}{slow}, and must be the fast one", _reordered(kind, _channel_slow(kind))
        yield f"{name}channels are in reverse", _reordered(kind, lambda c: np.arange(c)[::-1])
    name = "Squeeze has the right numbers in another order: "
    yield f"{name}in a block, columns come before rows", _reordered(Squeeze, _columns_first)
    yield (
        f"{name}the channel is the slow index and must be the fast one, and in a block columns "
        "come before rows",
        _reordered(Squeeze, lambda c: np.arange(c).reshape(2, 2, -1).transpose(2, 1, 0).ravel()),
    )


@dataclass(frozen=True, eq=False)
class _Reordered(Bijector):
    """A bijector, then a permutation of its output's channels."""

    bijector: Any
    order: Order

    def forward(self, x: np.ndarray, context: Any = None) -> tuple[np.ndarray, np.ndarray]:
        y, log_det = self.bijector.forward(x, context)
        return y[:, self.order(y.shape[1])], log_det

    def inverse(self, y: np.ndarray, context: Any = None) -> tuple[np.ndarray, np.ndarray]:
        return self.bijector.inverse(y[:, np.argsort(self.order(y.shape[1]))], context)


def _reordered(kind: type, order: Order) -> Change:
    return lambda value: _Reordered(value, order) if isinstance(value, kind) else None


def _channel_slow(kind: type) -> Order:
    places = 4 if kind is Squeeze else 2
    return lambda c: np.arange(c).reshape(places, -1).T.ravel()


def _columns_first(channels: int) -> np.ndarray:
    return np.arange(channels).reshape(2, 2, -1).transpose(1, 0, 2).ravel()
