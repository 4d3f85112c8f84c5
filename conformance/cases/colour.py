"""Cases of models of colour images that are not square, with uncommon numbers of levels.

In images of one channel the order of channels does not show, and a mean over them is their sum;
in square ones height and width may be exchanged, and 256 levels hide a byte that overflows.
"""

from __future__ import annotations

import numpy as np

from reference.augmentation import Augmenter
from reference.bijectors import Checkerboard, ColumnStripes
from reference.context import ImageEncoder
from reference.dequantization import TruncatedNormalDequantizer, VariationalDequantizer
from reference.model import FlowPlusPlus

from .case import LayerCase
from .conditional import (
    ALL,
    NETWORK,
    TOLERANCES,
    Given,
    conditional_elbo,
    context_images,
    vector_encoder,
    vectors,
    with_context,
)
from .draws import CONTEXT, Rng, conditioner
from .flows import augmentation_flow, conditional_flow, dequantization_flow
from .models import AUGMENT, BOTH, CONDITIONAL, elbo, images, sample

CHANNELS, HEIGHT, WIDTH = SHAPE = (3, 2, 4)
SIZE = (HEIGHT, WIDTH)
MANY_LEVELS = 300
"""More than a byte holds."""
FEW_LEVELS = 17
CONTEXT_LEVELS = 5
CONTEXT_IMAGE = (2, 1, 2)
"""Shape of a context of half the image's size."""
INPUTS = 2 * (CHANNELS + CONTEXT)
"""Channels of an image's halves, with features of its context."""


def _variational(rng: Rng, levels: int, inputs: int) -> VariationalDequantizer:
    network = conditioner(rng, inputs, None, *SIZE, filters=CONTEXT, mixing="none")
    flow = dequantization_flow(rng, CHANNELS, SIZE, **NETWORK)
    return VariationalDequantizer(levels, ColumnStripes(), network, flow)


def _truncated_normal(rng: Rng, inputs: int) -> TruncatedNormalDequantizer:
    network = conditioner(rng, inputs, 2 * CHANNELS, *SIZE, mixing="none")
    return TruncatedNormalDequantizer(FEW_LEVELS, network)


def _by_vector(rng: Rng) -> FlowPlusPlus:
    """Draw a model with noise from a flow, and with augmentation."""
    network = conditioner(rng, INPUTS, None, *SIZE, filters=CONTEXT, mixing="none")
    noise = augmentation_flow(rng, AUGMENT, SIZE, **NETWORK)
    augmenter = Augmenter(MANY_LEVELS, AUGMENT, ColumnStripes(), network, noise)
    flow = conditional_flow(
        rng, channels=CHANNELS, size=SIZE, augment=AUGMENT, levels=MANY_LEVELS, **NETWORK
    )
    dequantizer = _variational(rng, MANY_LEVELS, INPUTS)
    return FlowPlusPlus(dequantizer, flow, augmenter, vector_encoder(rng))


def _by_image(rng: Rng) -> FlowPlusPlus:
    network = conditioner(rng, CONTEXT_IMAGE[0], None, *SIZE, filters=CONTEXT, mixing="none")
    flow = conditional_flow(
        rng, split=Checkerboard, channels=CHANNELS, size=SIZE, levels=FEW_LEVELS, components=0,
        mixing="none",
    )  # fmt: skip
    encoder = ImageEncoder(CONTEXT_LEVELS, network)
    return FlowPlusPlus(_truncated_normal(rng, CHANNELS + CONTEXT), flow, None, encoder)


def _contexts(rng: Rng) -> np.ndarray:
    return context_images(rng, CONTEXT_LEVELS, CONTEXT_IMAGE)


CASES = (
    LayerCase(
        "variational_dequantizer/colour",
        lambda rng: _variational(rng, MANY_LEVELS, 2 * CHANNELS),
        images(noise="normal", levels=MANY_LEVELS, shape=SHAPE),
        images(noise="normal", levels=MANY_LEVELS, shape=SHAPE, scale=2.0),
        sample,
        BOTH,
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "truncated_normal_dequantizer/colour",
        lambda rng: _truncated_normal(rng, CHANNELS),
        images(noise="uniform", levels=FEW_LEVELS, shape=SHAPE),
        images(noise="uniform", levels=FEW_LEVELS, shape=SHAPE),
        sample,
        BOTH,
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "flow_plus_plus/colour_by_vector",
        _by_vector,
        with_context(
            images(noise="normal", levels=MANY_LEVELS, shape=SHAPE, augment=AUGMENT), vectors
        ),
        with_context(
            images(noise="normal", levels=MANY_LEVELS, shape=SHAPE, augment=AUGMENT, scale=2.0),
            vectors,
        ),
        lambda model, x, noise, context: elbo(Given(model, context), x, noise),
        ALL,
        tolerances=TOLERANCES,
        contexts=vectors,
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/colour_by_image",
        _by_image,
        with_context(images(noise="uniform", levels=FEW_LEVELS, shape=SHAPE), _contexts),
        with_context(images(noise="uniform", levels=FEW_LEVELS, shape=SHAPE), _contexts),
        conditional_elbo,
        ALL,
        tolerances=TOLERANCES,
        contexts=_contexts,
        bound=True,
    ),
)
