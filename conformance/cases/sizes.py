"""Specifications and inputs of many sizes, for the law `sizes`.

Parameters and inputs are ordinary, so that no result is ill-conditioned: a fault of structure is
an error of the size of the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from reference.bijectors import (
    ActNorm,
    Affine,
    Bijector,
    Chain,
    DataLogit,
    FactorOut,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)

from .draws import Rng, act_norm, coupling, matrices

Shape = tuple[int, int, int]
Sized = tuple[Bijector, np.ndarray]
Sizes = Callable[[Rng], Iterator[Sized]]

SHAPES: tuple[Shape, ...] = (
    (1, 1, 1),
    (1, 1, 8),
    (1, 5, 1),
    (1, 4, 4),
    (2, 7, 3),
    (3, 2, 9),
    (2, 5, 6),
    (3, 8, 10),
    (1, 9, 3),
    (3, 11, 13),
    (5, 17, 2),
    (16, 3, 5),
    (33, 1, 3),
)
COMPONENTS = (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 23, 24, 31, 32, 33, 37, 40)
FEW = (1, 3, 9, 33, 40)
BATCH = 2


def elementwise(build: Callable[[Rng, Shape], Bijector]) -> Sizes:
    """Return a draw of a map that takes every shape."""

    def draw(rng: Rng) -> Iterator[Sized]:
        for shape in SHAPES:
            yield build(rng, shape), rng.standard_normal((BATCH, *shape))

    return draw


def permutation(kind: Callable[[], Bijector], *multiples: int) -> Sizes:
    """Return a draw of a permutation of shapes that are multiples of (channels, height, width)."""

    def draw(rng: Rng) -> Iterator[Sized]:
        for shape in SHAPES:
            sizes = (a * b for a, b in zip(shape, multiples, strict=True))
            yield kind(), rng.standard_normal((BATCH, *sizes))

    return draw


def mixture(rng: Rng, shape: Shape, components: int) -> MixtureLogistic:
    """Draw a mixture without narrow components."""
    full = (1, *shape, components)
    return MixtureLogistic(
        rng.standard_normal(full), rng.standard_normal(full), rng.uniform(-1.0, 1.0, full)
    )


def mixtures(rng: Rng) -> Iterator[Sized]:
    """Draw mixtures of every number of components, and of every shape."""
    for components in COMPONENTS:
        yield mixture(rng, (2, 1, 3), components), rng.standard_normal((BATCH, 2, 1, 3))
    for i, shape in enumerate(SHAPES):
        x = rng.standard_normal((BATCH, *shape))
        yield mixture(rng, shape, FEW[i % len(FEW)] if x.size < 100 else 3), x


def act_norms(rng: Rng) -> Iterator[Sized]:
    """Draw gains of a channel and of an activation."""
    for shape in SHAPES:
        for fields in dict.fromkeys([(shape[0], 1, 1), shape]):
            yield act_norm(rng, *fields), rng.standard_normal((BATCH, *shape))


def affine(rng: Rng, shape: Shape) -> Affine:
    """Draw an affine map with a log-scale for each row, and one shift."""
    return Affine(rng.uniform(-1.0, 1.0, (shape[1], 1)), rng.standard_normal(1))


def affines(rng: Rng) -> Iterator[Sized]:
    """Draw fields of every number of axes, and of one that broadcasts."""
    for shape in SHAPES:
        c, h, w = shape
        for fields in dict.fromkeys([(), (w,), (h, 1), (c, 1, 1), (1, h, w), (BATCH, c, 1, 1)]):
            log_scale, shift = rng.uniform(-1.0, 1.0, fields), rng.standard_normal(fields)
            yield Affine(log_scale, shift), rng.standard_normal((BATCH, *shape))


def data_logits(rng: Rng) -> Iterator[Sized]:
    """Draw images of every shape and number of levels."""
    for i, shape in enumerate(SHAPES):
        levels = (2, 3, 8, 17, 32, 100, 256, 1000, 4096, 65536)[i % 10]
        x = rng.uniform(0.05, 0.95, (BATCH, *shape)) * levels
        yield DataLogit(levels, (0.05, 0.01, 0.2)[i % 3]), x


def _grouped(rng: Rng) -> Iterator[tuple[int, int, np.ndarray]]:
    for i, (_, height, width) in enumerate(SHAPES):
        for groups, size in ((1, 1 + i), (2, 1 + i % 4), (3, 1 + i % 2)):
            yield groups, size, rng.standard_normal((BATCH, groups * size, height, width))


def convolutions(rng: Rng) -> Iterator[Sized]:
    """Draw 1x1 convolutions of every number of channels and groups."""
    for groups, size, x in _grouped(rng):
        yield InvertibleConv(matrices(rng, groups, size)), x


def lu_convolutions(rng: Rng) -> Iterator[Sized]:
    """Draw 1x1 convolutions as products of triangles."""
    for groups, size, x in _grouped(rng):
        square = (groups, size, size)
        yield (
            InvertibleConvLU(
                np.stack([rng.permutation(size) for _ in range(groups)]),
                0.3 * rng.standard_normal(square) / size,
                0.3 * rng.standard_normal(square) / size,
                0.3 * rng.standard_normal(square[:2]),
                rng.choice([-1.0, 1.0], square[:2]),
            ),
            x,
        )


def couplings(rng: Rng) -> Iterator[Sized]:
    """Draw couplings of images that are not square, tall, wide and odd."""
    options = [
        ((2, 1, 1), 1, "attention"),
        ((2, 1, 7), 9, "none"),
        ((2, 9, 1), 40, "none"),
        ((4, 3, 5), 2, "attention"),
        ((6, 9, 2), 7, "maxout"),
        ((2, 2, 11), 33, "attention"),
        ((10, 3, 3), 0, "none"),
        ((2, 10, 7), 3, "attention"),
        ((66, 1, 3), 1, "none"),
    ]
    for shape, components, mixing in options:
        for filters in (4, 10):
            spec = coupling(rng, *shape, components=components, mixing=mixing, filters=filters)
            yield spec, rng.standard_normal((BATCH, *shape))


def chains(rng: Rng) -> Iterator[Sized]:
    """Draw compositions of every shape, squeezed and back."""
    for shape in SHAPES:
        c, h, w = shape
        large = (c, 2 * h, 2 * w)
        parts = (affine(rng, large), Squeeze(), act_norm(rng, 4 * c), Inverse(Squeeze()))
        yield Chain(parts), rng.standard_normal((BATCH, *large))


def inverse(rng: Rng, shape: Shape) -> Inverse:
    """Draw the inverse of an activation normalization."""
    return Inverse(act_norm(rng, *shape))


def factored_out(rng: Rng) -> Iterator[Sized]:
    """Draw flows of half of the channels."""
    for c, h, w in SHAPES:
        gain: ActNorm = act_norm(rng, c, h, w)
        yield FactorOut(gain), rng.standard_normal((BATCH, 2 * c, h, w))


def sigmoid(rng: Rng, shape: Shape) -> Sigmoid:
    """Return the sigmoid."""
    return Sigmoid()
