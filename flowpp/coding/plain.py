"""Coding of images without a model: differences of neighbours, Laplace distributed.

The first images of a file are coded in this way. Their bits are the initial bits, which the noise
of the next images is popped from.
"""

from __future__ import annotations

import numpy as np

from .stack import Stack

SCALES = 64
STEPS = 4
"""Scales are 2^(i / STEPS - 2), i = 0 ... SCALES - 1."""
GREEN = 1


def push_plain(stack: Stack, x: np.ndarray, levels: int) -> None:
    """Push one image `(C, H, W)`, integers 0 ... levels - 1."""
    given = _without_green(x.astype(np.int64), levels, -1)
    residuals = [_centred(_differences(given, both), levels) for both in (False, True)]
    both = int(np.abs(residuals[1]).mean() < np.abs(residuals[0]).mean())
    residual = residuals[both].reshape(len(x), -1)
    # The mean of |r| is the best scale of a Laplace distribution.
    index = np.rint(STEPS * (np.log2(np.abs(residual).mean(axis=1) + 0.01) + 2)).astype(np.int64)
    index = index.clip(0, SCALES - 1)
    stack.push_laplace(
        residual.ravel(), _low(levels), _low(levels) + levels - 1, _scales(index, x.shape)
    )
    stack.push_uniform(np.array([both, *index]), _sizes(len(x)))


def pop_plain(stack: Stack, shape: tuple[int, int, int], levels: int) -> np.ndarray:
    """Pop one image `(C, H, W)`, int64: the inverse of `push_plain`."""
    both, *index = stack.pop_uniform(_sizes(shape[0]))
    scales = _scales(np.array(index), shape)
    residual = stack.pop_laplace(_low(levels), _low(levels) + levels - 1, scales).reshape(shape)
    if both:
        given = residual.cumsum(1).cumsum(2)
    else:
        residual[:, 0] = residual[:, 0].cumsum(1)
        given = residual.cumsum(1)
    return _without_green(given % levels, levels, 1) % levels


def _without_green(x: np.ndarray, levels: int, sign: int) -> np.ndarray:
    """Subtract the second of three channels from the others, or add it."""
    if len(x) != 3:
        return x
    y = x.copy()
    for other in (0, 2):
        y[other] = (x[other] + sign * x[GREEN]) % levels
    return y


def _differences(x: np.ndarray, both: bool) -> np.ndarray:  # noqa: FBT001
    """Return x less the pixel above; with `both`, also less the one on the left of that."""
    if both:
        return np.diff(np.diff(x, axis=1, prepend=0), axis=2, prepend=0)
    down = np.diff(x, axis=1, prepend=0)
    down[:, 0] = np.diff(x[:, 0], axis=1, prepend=0)
    return down


def _centred(differences: np.ndarray, levels: int) -> np.ndarray:
    return (differences - _low(levels)) % levels + _low(levels)


def _low(levels: int) -> int:
    return -(levels // 2)


def _scales(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.exp2(index / STEPS - 2), shape[1] * shape[2])


def _sizes(channels: int) -> np.ndarray:
    return np.array([2] + [SCALES] * channels)
