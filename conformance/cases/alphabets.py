"""Models with few enough images to enumerate them."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.augmentation import Augmenter
from reference.bijectors import (
    ActNorm,
    Chain,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    FirstChannels,
    Flip,
    Inverse,
    InvertibleConv,
    Sigmoid,
)
from reference.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from reference.model import FlowPlusPlus

from .case import LayerCase
from .draws import CONTEXT, Rng, act_norm, conditioner, coupling, matrices
from .models import BOTH, elbo, images

LEVELS = 3
SHAPE = (1, 1, 2)
PIXEL = (1, 1, 1)
AUGMENT = 2
SMALL: dict[str, Any] = {"mixing": "none", "filters": 4, "components": 2}


def _flow(rng: Rng) -> Chain:
    return Chain(
        (
            DataLogit(LEVELS),
            Checkerboard(),
            act_norm(rng, 2),
            InvertibleConv(matrices(rng, 1, 2)),
            coupling(rng, 2, 1, 1, **SMALL),
            Flip(),
            coupling(rng, 2, 1, 1, **SMALL),
        )
    )


def _uniform(rng: Rng) -> FlowPlusPlus:
    return FlowPlusPlus(UniformDequantizer(LEVELS), _flow(rng))


def _variational(rng: Rng) -> FlowPlusPlus:
    network = conditioner(rng, 2, None, 1, 1, filters=CONTEXT, mixing="none")
    noise = Chain(
        (
            ColumnStripes(),
            act_norm(rng, 2),
            coupling(rng, 2, 1, 1, context=CONTEXT, **SMALL),
            Flip(),
            coupling(rng, 2, 1, 1, context=CONTEXT, **SMALL),
            Inverse(ColumnStripes()),
            Sigmoid(),
        )
    )
    dequantizer = VariationalDequantizer(LEVELS, ColumnStripes(), network, noise)
    return FlowPlusPlus(dequantizer, _flow(rng))


def _truncated_normal(rng: Rng) -> FlowPlusPlus:
    network = conditioner(rng, 1, 2, 1, 2, filters=4, mixing="none")
    return FlowPlusPlus(TruncatedNormalDequantizer(LEVELS, network), _flow(rng))


def _augmented(rng: Rng) -> FlowPlusPlus:
    """Build a model of one pixel with two channels of augmentation."""
    network = conditioner(rng, 1, None, 1, 1, filters=CONTEXT, mixing="none")
    noise = Chain(
        (
            act_norm(rng, AUGMENT),
            coupling(rng, AUGMENT, 1, 1, context=CONTEXT, **SMALL),
            Flip(),
            coupling(rng, AUGMENT, 1, 1, context=CONTEXT, **SMALL),
            ActNorm(np.full((AUGMENT, 1, 1), 3.0), np.zeros((AUGMENT, 1, 1))),  # wider than p
        )
    )
    flow = Chain(
        (
            FirstChannels(DataLogit(LEVELS), 1),
            act_norm(rng, 1 + AUGMENT),
            FirstChannels(coupling(rng, 2, 1, 1, **SMALL), 2),
            InvertibleConv(matrices(rng, 1, 1 + AUGMENT)),
            FirstChannels(coupling(rng, 2, 1, 1, **SMALL), 2),
        )
    )
    augmenter = Augmenter(LEVELS, AUGMENT, Chain(()), network, noise)
    return FlowPlusPlus(UniformDequantizer(LEVELS), flow, augmenter)


def _images(noise: str):
    return images(noise=noise, levels=LEVELS, shape=SHAPE)


CASES = (
    LayerCase(
        "flow_plus_plus/alphabet_uniform",
        _uniform,
        _images("uniform"),
        _images("uniform"),
        elbo,
        BOTH,
        alphabet=True,
    ),
    LayerCase(
        "flow_plus_plus/alphabet_variational",
        _variational,
        _images("normal"),
        _images("normal"),
        elbo,
        BOTH,
        alphabet=True,
    ),
    LayerCase(
        "flow_plus_plus/alphabet_truncated_normal",
        _truncated_normal,
        _images("uniform"),
        _images("uniform"),
        elbo,
        BOTH,
        alphabet=True,
    ),
    LayerCase(
        "flow_plus_plus/alphabet_augmented",
        _augmented,
        images(noise="uniform", levels=LEVELS, shape=PIXEL, augment=AUGMENT),
        images(noise="uniform", levels=LEVELS, shape=PIXEL, augment=AUGMENT),
        elbo,
        BOTH,
        alphabet=True,
    ),
)
