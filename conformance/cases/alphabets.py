"""Models with few enough images to enumerate them."""

from __future__ import annotations

from typing import Any

from reference.bijectors import (
    Chain,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    Flip,
    Inverse,
    InvertibleConv,
    Sigmoid,
)
from reference.dequantization import UniformDequantizer, VariationalDequantizer
from reference.model import FlowPlusPlus

from .case import LayerCase
from .draws import CONTEXT, Rng, act_norm, conditioner, coupling, matrices
from .models import BOTH, elbo, images

LEVELS = 3
SHAPE = (1, 1, 2)
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
)
