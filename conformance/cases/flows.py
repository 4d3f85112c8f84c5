"""Cases of compositions: chains, inverses, multi-scale flows, and small Flow++ flows."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.bijectors import (
    Affine,
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    FactorOut,
    FirstChannels,
    Flip,
    Inverse,
    InvertibleConv,
    LiftedContext,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)

from .case import NETWORK, Case, Scalars, Tolerance
from .draws import (
    BATCH,
    CONTEXT,
    Rng,
    act_norm,
    coupling,
    magnitudes,
    matrices,
    normal,
    step,
    uniform,
)
from .elementwise import logit_range, pixel_domain

SHAPE = (2, 2, 3)
SQUARE = (4, 4)
"""Height and width of the images of most flows."""


def mixture_and_affine(rng: Rng) -> Chain:
    """Build the elementwise map of a coupling."""
    shape = (1, *SHAPE, 4)
    mixture = MixtureLogistic(
        rng.standard_normal(shape), 1.5 * rng.standard_normal(shape), rng.uniform(-2, 1, shape)
    )
    shift = rng.standard_normal(SHAPE)
    return Chain((mixture, Affine(np.tanh(rng.standard_normal(SHAPE)), shift)))


def multi_scale(rng: Rng) -> Chain:
    """Build a flow that factors out half of the channels and squeezes the rest."""
    inner = Chain(
        (
            Squeeze(),
            act_norm(rng, 8),
            *step(rng, 8, 1, 2, components=2, mixing="none"),
            Inverse(Squeeze()),
        )
    )
    return Chain((*step(rng, 4, 2, 4, components=2, mixing="none"), FactorOut(inner)))


def main_flow(
    rng: Rng,
    *,
    split: type[Bijector] = ColumnStripes,
    channels: int = 1,
    augment: int = 0,
    levels: int = 256,
    **network: Any,
) -> Chain:
    """Build Flow++ on `(channels, 4, 4)` images: "columns 2, squeeze, channels 1, columns 1".

    `augment` channels of the real line follow those of the image.
    """
    c, logit = channels + augment, DataLogit(levels)
    return Chain(
        (
            FirstChannels(logit, channels) if augment else logit,
            split(),
            *step(rng, 2 * c, 4, 2, **network),
            *step(rng, 2 * c, 4, 2, **network),
            Inverse(split()),
            Squeeze(),
            ChannelSplit(),
            *step(rng, 4 * c, 2, 2, **network),
            split(),
            *step(rng, 8 * c, 2, 1, **network),
            Inverse(split()),
        )
    )


def conditional_flow(
    rng: Rng,
    *,
    split: type[Bijector] = ColumnStripes,
    channels: int = 1,
    size: tuple[int, int] = SQUARE,
    augment: int = 0,
    levels: int = 256,
    **network: Any,
) -> Chain:
    """Build Flow++ on images of `size`: "columns 1, squeeze, channels 1, columns 1".

    Couplings receive `CONTEXT` features of each pixel, lifted as the image is.
    """
    c, logit = channels + augment, DataLogit(levels)
    squeeze, (height, width) = Squeeze(), size

    def lifted(lift: tuple[Bijector, ...], c: int, h: int, w: int) -> Bijector:
        context = CONTEXT * height * width // (h * w)
        steps = step(rng, c, h, w, context=context, **network)
        return LiftedContext(Chain(steps), Chain(lift))

    return Chain(
        (
            FirstChannels(logit, channels) if augment else logit,
            split(),
            lifted((split(),), 2 * c, height, width // 2),
            Inverse(split()),
            squeeze,
            ChannelSplit(),
            lifted((squeeze,), 4 * c, height // 2, width // 2),
            split(),
            lifted((squeeze, split()), 8 * c, height // 2, width // 4),
            Inverse(split()),
        )
    )


def dequantization_flow(
    rng: Rng, channels: int = 1, size: tuple[int, int] = SQUARE, **network: Any
) -> Chain:
    """Build the flow from noise to u in (0, 1), on images of `size`, given a context."""
    return Chain((*augmentation_flow(rng, channels, size, **network).bijectors, Sigmoid()))


def augmentation_flow(
    rng: Rng, channels: int = 1, size: tuple[int, int] = SQUARE, **network: Any
) -> Chain:
    """Build the flow from noise to e on the real line, on images of `size`, given a context."""
    height, half = size[0], size[1] // 2
    return Chain(
        (
            ColumnStripes(),
            *step(rng, 2 * channels, height, half, context=CONTEXT, **network),
            *step(rng, 2 * channels, height, half, context=CONTEXT, **network),
            Inverse(ColumnStripes()),
        )
    )


def _first_two(rng: Rng) -> FirstChannels:
    two = (2, *SHAPE[1:])
    return FirstChannels(Affine(np.tanh(rng.standard_normal(two)), rng.standard_normal(two)), 2)


def _near_level_ends(rng: Rng) -> np.ndarray:
    """Draw pixels, some of them black or white, exactly at the ends."""
    x = rng.uniform(0.0, 256.0, (BATCH, 1, 4, 4))
    return np.where(rng.random(x.shape) < 0.3, rng.choice([0.0, 256.0], x.shape), x)


def _joint_convolution(rng: Rng) -> Chain:
    return Chain(
        (
            InvertibleConv(matrices(rng, 1, 4)),
            coupling(rng, 4, 2, 3, components=2),
            act_norm(rng, 4),
        )
    )


def _lifted_step(rng: Rng) -> LiftedContext:
    steps = step(rng, 4, 2, 1, components=2, context=8 * CONTEXT, mixing="none")
    return LiftedContext(Chain(steps), Chain((Squeeze(), Checkerboard())))


def _without_context(rng: Rng) -> LiftedContext:
    return LiftedContext(Chain((act_norm(rng, 4), Flip())), Inverse(Squeeze()))


CASES = (
    Case(
        "lifted_context/without",
        _without_context,
        normal(4, 2, 3),
        magnitudes(4, 2, 3, largest=1e3),
    ),
    Case(
        "lifted_context/squeeze_and_checkerboard",
        _lifted_step,
        normal(4, 2, 1),
        magnitudes(4, 2, 1, largest=10.0),
        context=normal(CONTEXT, 4, 4),
        noise=normal(4, 2, 1),
        tolerances=NETWORK,
    ),
    Case(
        "chain/mixture_and_affine",
        mixture_and_affine,
        normal(*SHAPE, scale=2),
        magnitudes(*SHAPE, largest=1e3),
        noise=normal(*SHAPE, scale=2),
        tolerances={
            "inverse_gradients": Tolerance(
                2000,
                "in the tails a step of x is small relative to x, but not to a scale",
                "float32",
            )
        },
        scalars=Scalars(),
    ),
    Case("chain/empty", lambda rng: Chain(()), normal(*SHAPE), magnitudes(*SHAPE, largest=1e6)),
    Case(
        "chain/joint_convolution",
        _joint_convolution,
        normal(4, 2, 3),
        magnitudes(4, 2, 3, largest=30.0),
        noise=normal(4, 2, 3),
        tolerances=NETWORK,
    ),
    Case(
        "inverse/mixture",
        lambda rng: Inverse(mixture_and_affine(rng)),
        normal(*SHAPE, scale=2),
        magnitudes(*SHAPE, largest=100.0),
        scalars=Scalars(),
    ),
    Case(
        "inverse/data_logit",
        lambda rng: Inverse(DataLogit(256)),
        normal(*SHAPE),
        uniform(*SHAPE, low=-2.9, high=2.9),
        image=pixel_domain(256),
        scalars=Scalars(*logit_range(0.05), (0.0, 256.0)),
    ),
    Case(
        "inverse/sigmoid",
        lambda rng: Inverse(Sigmoid()),
        uniform(*SHAPE, low=0.0, high=1.0),
        uniform(*SHAPE, low=1e-3, high=0.999),
        domain=(0.0, 1.0),
        scalars=Scalars(0.0, 1.0, (-6.0, 6.0)),
    ),
    Case(
        "inverse/coupling",
        lambda rng: Inverse(coupling(rng, 4, 2, 3)),
        normal(4, 2, 3),
        magnitudes(4, 2, 3, largest=30.0),
        tolerances=NETWORK,
    ),
    Case(
        "inverse/inverse",
        lambda rng: Inverse(Inverse(coupling(rng, 4, 2, 3, components=2))),
        normal(4, 2, 3),
        magnitudes(4, 2, 3, largest=30.0),
        tolerances=NETWORK,
    ),
    Case(
        "factor_out/multi_scale",
        multi_scale,
        normal(4, 2, 4),
        magnitudes(4, 2, 4, largest=10.0),
        noise=normal(4, 2, 4),
        tolerances=NETWORK,
    ),
    Case(
        "factor_out/with_context",
        lambda rng: FactorOut(coupling(rng, 4, 2, 3, components=2, context=CONTEXT)),
        normal(8, 2, 3),
        magnitudes(8, 2, 3, largest=10.0),
        context=normal(CONTEXT, 2, 3),
        noise=normal(8, 2, 3),
        tolerances=NETWORK,
    ),
    Case(
        "first_channels/affine",
        _first_two,
        normal(5, *SHAPE[1:]),
        magnitudes(5, *SHAPE[1:], largest=1e3),
    ),
    Case(
        "first_channels/with_context",
        lambda rng: FirstChannels(coupling(rng, 2, 2, 3, components=2, context=CONTEXT), 2),
        normal(3, 2, 3),
        magnitudes(3, 2, 3, largest=10.0),
        context=normal(CONTEXT, 2, 3),
        noise=normal(3, 2, 3),
        tolerances=NETWORK,
    ),
    Case(
        "flow/main",
        main_flow,
        uniform(1, 4, 4, low=0.0, high=256.0),
        _near_level_ends,
        domain=pixel_domain(256),
        tolerances=NETWORK,
    ),
    Case(
        "flow/main_checkerboard",
        lambda rng: main_flow(rng, split=Checkerboard, components=2),
        uniform(1, 4, 4, low=0.0, high=256.0),
        _near_level_ends,
        domain=pixel_domain(256),
        tolerances=NETWORK,
    ),
    Case(
        "flow/main_affine_colour",
        lambda rng: main_flow(rng, channels=3, components=0, mixing="none"),
        uniform(3, 4, 4, low=0.0, high=256.0),
        uniform(3, 4, 4, low=0.0, high=256.0),
        domain=pixel_domain(256),
        tolerances=NETWORK,
    ),
    Case(
        "flow/conditional",
        lambda rng: conditional_flow(rng, components=2, mixing="none"),
        uniform(1, 4, 4, low=0.0, high=256.0),
        _near_level_ends,
        context=normal(CONTEXT, 4, 4),
        domain=pixel_domain(256),
        tolerances=NETWORK,
    ),
    Case(
        "flow/dequantization",
        dequantization_flow,
        normal(1, 4, 4),
        normal(1, 4, 4, scale=2.0),
        context=normal(CONTEXT, 4, 2),
        image=(0.0, 1.0),
        margin=1e-5,
        tolerances=NETWORK,
    ),
)
