"""Cases of encoders of contexts, and of conditional models."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.augmentation import Augmenter
from reference.bijectors import (
    Chain,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    Flip,
    Inverse,
    LiftedContext,
    Sigmoid,
)
from reference.context import ImageEncoder, LabelEncoder, VectorEncoder
from reference.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from reference.model import FlowPlusPlus

from .alphabets import SMALL
from .case import Draw, LayerCase, Tolerance
from .draws import BATCH, CONTEXT, Rng, act_norm, conditioner, coupling, needs
from .flows import augmentation_flow, conditional_flow, dequantization_flow
from .models import AUGMENT, DEEP, LEVELS, SHAPE, elbo, images

CLASSES = 4
LABELS = CLASSES + 1
"""Labels, that for none included."""
VECTOR = 3
IMAGE = (2, 2, 2)
"""Shape of a context of half the image's size."""
SMALL_LEVELS = 3
NETWORK: dict[str, Any] = {"components": 2, "mixing": "none"}
TOLERANCES = dict.fromkeys(("value", "layer_batch"), DEEP)


def _label_encoder(rng: Rng, labels: int = LABELS) -> LabelEncoder:
    return LabelEncoder(rng.standard_normal((labels, CONTEXT)))


def vector_encoder(rng: Rng) -> VectorEncoder:
    """Draw an encoder of vectors."""
    return VectorEncoder(
        rng.standard_normal(VECTOR),
        rng.uniform(0.5, 2.0, VECTOR),
        rng.standard_normal((CONTEXT, VECTOR)),
        0.3 * rng.standard_normal(CONTEXT),
    )


def _image_encoder(rng: Rng) -> ImageEncoder:
    network = conditioner(rng, IMAGE[0], None, *SHAPE[1:], filters=CONTEXT, mixing="none")
    return ImageEncoder(LEVELS, network)


def _labels(rng: Rng) -> np.ndarray:
    """Draw different classes; that for none is left to the law of all contexts."""
    return rng.permutation(CLASSES)[:BATCH]


def vectors(rng: Rng) -> np.ndarray:
    """Draw a vector for each image."""
    return 2.0 * rng.standard_normal((BATCH, VECTOR))


def context_images(
    rng: Rng, levels: int = LEVELS, shape: tuple[int, int, int] = IMAGE
) -> np.ndarray:
    """Draw a context image for each image."""
    return rng.uniform(0.0, levels - 1.0, (BATCH, *shape))


def _features(encoder: Any, context: np.ndarray) -> dict[str, np.ndarray]:
    return {"features": encoder(context, SHAPE)}


def conditional_elbo(
    model: Any, x: np.ndarray, noise: np.ndarray, context: np.ndarray
) -> dict[str, np.ndarray]:
    """Return every term of the bound, z, and the image that z is decoded to."""
    bound, z = model.elbo(x, noise, context), model.encode(x, noise, context)
    names = ("log_q", "log_det", "log_prior", "total")
    terms = {name: getattr(bound, name) for name in names}
    return terms | {"z": z, "decoded": model.decode(z, context)}


def _initialized(
    model: Any, x: np.ndarray, noise: np.ndarray, context: np.ndarray
) -> dict[str, np.ndarray]:
    fitted, _ = needs(model, "initialize")(x, noise, context)
    bound = fitted.elbo(x, noise, context)
    return {"total": bound.total, "z": fitted.encode(x, noise, context)}


def _dequantizer(rng: Rng) -> VariationalDequantizer:
    inputs = 2 * (SHAPE[0] + CONTEXT)
    network = conditioner(rng, inputs, None, 4, 2, filters=CONTEXT, mixing="none")
    flow = dequantization_flow(rng, **NETWORK)
    return VariationalDequantizer(LEVELS, ColumnStripes(), network, flow)


def _by_label(rng: Rng) -> FlowPlusPlus:
    flow = conditional_flow(rng, levels=LEVELS, **NETWORK)
    return FlowPlusPlus(_dequantizer(rng), flow, None, _label_encoder(rng))


def _by_vector(rng: Rng) -> FlowPlusPlus:
    """Draw a model with augmentation."""
    inputs = 2 * (SHAPE[0] + CONTEXT)
    network = conditioner(rng, inputs, None, 4, 2, filters=CONTEXT, mixing="none")
    noise = augmentation_flow(rng, AUGMENT, **NETWORK)
    augmenter = Augmenter(LEVELS, AUGMENT, ColumnStripes(), network, noise)
    flow = conditional_flow(rng, augment=AUGMENT, levels=LEVELS, **NETWORK)
    return FlowPlusPlus(UniformDequantizer(LEVELS), flow, augmenter, vector_encoder(rng))


def _by_image(rng: Rng) -> FlowPlusPlus:
    network = conditioner(rng, SHAPE[0] + CONTEXT, 2 * SHAPE[0], 4, 4, mixing="none")
    dequantizer = TruncatedNormalDequantizer(LEVELS, network)
    flow = conditional_flow(rng, split=Checkerboard, levels=LEVELS, components=0, mixing="none")
    return FlowPlusPlus(dequantizer, flow, None, _image_encoder(rng))


def _of_two_pixels(rng: Rng) -> FlowPlusPlus:
    """Draw a model by label of images of two pixels with few levels."""
    network = conditioner(rng, 2 + 2 * CONTEXT, None, 1, 1, filters=CONTEXT, mixing="none")
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
    steps = Chain(
        (
            act_norm(rng, 2),
            coupling(rng, 2, 1, 1, context=2 * CONTEXT, **SMALL),
            Flip(),
            coupling(rng, 2, 1, 1, context=2 * CONTEXT, **SMALL),
        )
    )
    flow = Chain((DataLogit(SMALL_LEVELS), ColumnStripes(), LiftedContext(steps, ColumnStripes())))
    dequantizer = VariationalDequantizer(SMALL_LEVELS, ColumnStripes(), network, noise)
    return FlowPlusPlus(dequantizer, flow, None, _label_encoder(rng, 2))


def with_context(draw: Draw, context: Draw) -> Draw:
    """Return a draw of images, noise and contexts."""
    return lambda rng: {**draw(rng), "context": context(rng)}


def _initial(rng: Rng) -> dict[str, np.ndarray]:
    """Draw a batch for initialization, with one column of the vectors constant."""
    batch = 16
    drawn = images(noise="uniform", augment=AUGMENT, batch=batch)(rng)
    vectors = 5.0 + 2.0 * rng.standard_normal((batch, VECTOR))
    vectors[:, -1] = 0.1
    return {**drawn, "context": vectors}


def _two_pixels(rng: Rng) -> dict[str, np.ndarray]:
    drawn = images(noise="normal", levels=SMALL_LEVELS, shape=(1, 1, 2))(rng)
    return {**drawn, "context": rng.integers(2, size=BATCH)}


ALL = {"x": 0, "noise": 0, "context": 0}
CASES = (
    LayerCase(
        "label_encoder",
        _label_encoder,
        lambda rng: {"context": _labels(rng)},
        lambda rng: {"context": np.array([LABELS - 1, 0, LABELS - 1])},
        _features,
        {"context": 0},
    ),
    LayerCase(
        "vector_encoder",
        vector_encoder,
        lambda rng: {"context": vectors(rng)},
        lambda rng: {"context": 1e4 * vectors(rng)},
        _features,
        {"context": 0},
    ),
    LayerCase(
        "image_encoder",
        _image_encoder,
        lambda rng: {"context": context_images(rng)},
        lambda rng: {"context": np.round(context_images(rng)).astype(np.uint8)},
        _features,
        {"context": 0},
        tolerances=TOLERANCES,
    ),
    LayerCase(
        "flow_plus_plus/by_label",
        _by_label,
        with_context(images(noise="normal"), _labels),
        with_context(images(noise="normal", scale=2.0), _labels),
        conditional_elbo,
        ALL,
        tolerances=TOLERANCES,
        contexts=lambda rng: np.arange(LABELS),
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/by_vector",
        _by_vector,
        with_context(images(noise="uniform", augment=AUGMENT), vectors),
        with_context(images(noise="uniform", augment=AUGMENT, scale=2.0), vectors),
        conditional_elbo,
        ALL,
        tolerances=TOLERANCES,
        contexts=vectors,
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/by_image",
        _by_image,
        with_context(images(noise="uniform"), context_images),
        with_context(images(noise="uniform"), context_images),
        conditional_elbo,
        ALL,
        tolerances=TOLERANCES,
        contexts=context_images,
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/by_vector_initialized",
        _by_vector,
        _initial,
        _initial,
        _initialized,
        tolerances=dict.fromkeys(
            ("value", "layer_batch"), Tolerance(1500, "layer after layer divided by a deviation")
        ),
    ),
    LayerCase(
        "flow_plus_plus/alphabet_by_label",
        _of_two_pixels,
        _two_pixels,
        _two_pixels,
        lambda model, x, noise, context: elbo(Given(model, context), x, noise),
        ALL,
        alphabet=True,
        contexts=lambda rng: np.arange(2),
    ),
)


class Given:
    """A conditional model with its contexts."""

    def __init__(self, model: Any, context: np.ndarray) -> None:
        self.model, self.context = model, context

    def elbo(self, x: np.ndarray, noise: np.ndarray) -> Any:
        return self.model.elbo(x, noise, self.context)

    def encode(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return self.model.encode(x, noise, self.context)
