"""Cases of the dequantizers, whole models, and the functions of the objective."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference import objective, truncated_normal
from reference.augmentation import Augmenter
from reference.bijectors import ColumnStripes
from reference.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from reference.model import FlowPlusPlus

from .case import Draw, LayerCase, Tolerance
from .draws import BATCH, CONTEXT, Rng, conditioner, needs
from .flows import augmentation_flow, dequantization_flow, main_flow

SHAPE = (1, 4, 4)
WIDE = (1, 4, 6)
LEVELS = 32
AUGMENT = 2
DEEP = Tolerance(480, "rounding passes through ten bijectors and four networks")
_FLOW = Tolerance(250, "rounding passes through five bijectors and three networks")
CONDITIONAL = {"value": _FLOW, "layer_batch": _FLOW}


def variational_dequantizer(rng: Rng) -> VariationalDequantizer:
    """Draw a dequantizer with a context network without attention, as in released CIFAR models."""
    network = conditioner(rng, 2 * SHAPE[0], None, 4, 2, filters=CONTEXT, mixing="none")
    return VariationalDequantizer(
        LEVELS, ColumnStripes(), network, dequantization_flow(rng, components=2, mixing="none")
    )


def truncated_normal_dequantizer(rng: Rng) -> TruncatedNormalDequantizer:
    """Draw a dequantizer whose means lie in [0, 1] and outside."""
    network = conditioner(rng, SHAPE[0], 2 * SHAPE[0], 4, 4, mixing="none")
    return TruncatedNormalDequantizer(LEVELS, network)


def _normal_noise_model(rng: Rng) -> FlowPlusPlus:
    flow = main_flow(rng, levels=LEVELS, components=0, mixing="none")
    return FlowPlusPlus(truncated_normal_dequantizer(rng), flow)


def _truncated_normals(name: str, means: float, log_scales: tuple[float, float]) -> Draw:
    """Return a draw of points or probabilities in [0, 1), and of normals of both kinds."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        points = rng.random((BATCH, 40))
        points[0, :2] = 0.0, 0.5
        mean = 0.5 + means * rng.standard_normal(points.shape)
        mean[:, ::2] = rng.random(mean[:, ::2].shape)
        return {name: points, "mean": mean, "log_scale": rng.uniform(*log_scales, points.shape)}

    return draw


def variational_model(rng: Rng) -> FlowPlusPlus:
    """Draw a Flow++ model for images of one channel."""
    return FlowPlusPlus(variational_dequantizer(rng), main_flow(rng, levels=LEVELS))


def _uniform_model(rng: Rng) -> FlowPlusPlus:
    return FlowPlusPlus(
        UniformDequantizer(LEVELS), main_flow(rng, levels=LEVELS, components=0, mixing="none")
    )


def _augmenter(rng: Rng) -> Augmenter:
    network = conditioner(rng, 2 * SHAPE[0], None, 4, 2, filters=CONTEXT, mixing="none")
    flow = augmentation_flow(rng, AUGMENT, components=2, mixing="none")
    return Augmenter(LEVELS, AUGMENT, ColumnStripes(), network, flow)


def _augmented_model(rng: Rng) -> FlowPlusPlus:
    flow = main_flow(rng, augment=AUGMENT, levels=LEVELS, components=2, mixing="none")
    return FlowPlusPlus(UniformDequantizer(LEVELS), flow, _augmenter(rng))


def images(
    *,
    noise: str,
    scale: float = 1.0,
    batch: int = BATCH,
    levels: int = LEVELS,
    shape: tuple[int, ...] = SHAPE,
    augment: int = 0,
) -> Draw:
    """Return a draw of images, with black and white pixels, and "uniform" or "normal" noise.

    Normal noise of `augment` channels follows it.
    """

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        x = rng.integers(levels, size=(batch, *shape))
        x = x.astype(np.uint8 if levels <= 256 else np.int32)
        x[0].flat[:2] = np.array([0, levels - 1])[: x[0].size]
        u = rng.random(x.shape) if noise == "uniform" else scale * rng.standard_normal(x.shape)
        own = scale * rng.standard_normal((batch, augment, *shape[1:]))
        return {"x": x, "noise": np.concatenate([u, own], axis=1)}

    return draw


def _dequantized(name: str, scale: float) -> Draw:
    """Return a draw of dequantized images, and of normal noise or e for them."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        x = rng.uniform(0.0, LEVELS, (BATCH, *SHAPE))
        return {"x": x, name: scale * rng.standard_normal((BATCH, AUGMENT, *SHAPE[1:]))}

    return draw


def elbo(model: Any, x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Return every term of the bound, and z."""
    bound = model.elbo(x, noise)
    names = ("log_q", "log_det", "log_prior", "total")
    return {name: getattr(bound, name) for name in names} | {"z": model.encode(x, noise)}


def initialized_elbo(model: Any, x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Return `elbo` of the model, initialized from the same batch."""
    fitted, _ = needs(model, "initialize")(x, noise)
    return elbo(fitted, x, noise)


def sample(dequantizer: Any, x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Return the noise of a dequantizer, and its log-density."""
    u, log_q = dequantizer.sample(x, noise)
    return {"u": u, "log_q": log_q}


def _sample_e(augmenter: Any, x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    e, log_q = augmenter.sample(x, noise)
    return {"e": e, "log_q": log_q}


def _log_prob(dequantizer: Any, x: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    return {"log_q": dequantizer.log_prob(x, u)}


def _images_and_u(low: float, high: float, shape: tuple[int, ...] = SHAPE) -> Draw:
    def draw(rng: Rng) -> dict[str, np.ndarray]:
        x = images(noise="uniform", shape=shape)(rng)["x"]
        return {"x": x, "u": rng.uniform(low, high, x.shape)}

    return draw


def _at_the_ends_of_u(rng: Rng) -> dict[str, np.ndarray]:
    """Draw u with one pixel at each end: at 0, at 1, and beyond 1."""
    drawn = _images_and_u(0.0, 1.0, WIDE)(rng)
    for example, u in enumerate((0.0, 1.0, 1.5)):
        drawn["u"][example].flat[3] = u
    return drawn


def _latents(scale: float, shape: tuple[int, ...] = (4, 2, 2)) -> Draw:
    return lambda rng: {"z": scale * rng.standard_normal((BATCH, *shape))}


def _log_weights(offset: float, spread: float) -> Draw:
    return lambda rng: {"log_weights": offset + spread * rng.standard_normal((5, BATCH))}


def _uneven(rng: Rng) -> dict[str, np.ndarray]:
    """Draw log-weights of images whose likelihoods differ by factors up to e^100000."""
    offsets = np.array([0.0, -7000.0, 400.0, -100_000.0, 3000.0, -50.0])
    return {"log_weights": offsets + rng.standard_normal((5, len(offsets)))}


def _zero_weights(rng: Rng) -> dict[str, np.ndarray]:
    """Draw log-weights that are -inf: some of an image, all but one, and all."""
    weights = rng.standard_normal((5, 5)) - 3.0
    weights[0, 0] = weights[1:, 1] = weights[:-1, 2] = weights[:, 3] = -np.inf
    return {"log_weights": weights}


BOTH = {"x": 0, "noise": 0}
CASES = (
    LayerCase(
        "uniform_dequantizer",
        lambda rng: UniformDequantizer(LEVELS),
        images(noise="uniform", shape=WIDE),
        images(noise="uniform", shape=WIDE),
        sample,
        BOTH,
    ),
    LayerCase(
        "variational_dequantizer",
        variational_dequantizer,
        images(noise="normal"),
        images(noise="normal", scale=2.0),
        sample,
        BOTH,
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "truncated_normal_dequantizer",
        truncated_normal_dequantizer,
        images(noise="uniform"),
        images(noise="uniform"),
        sample,
        BOTH,
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "truncated_normal_dequantizer/log_prob",
        truncated_normal_dequantizer,
        _images_and_u(0.0, 1.0),
        _at_the_ends_of_u,
        _log_prob,
        {"x": 0, "u": 0},
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "truncated_normal/log_density",
        lambda rng: truncated_normal.log_density,
        _truncated_normals("u", 1.0, (-2.0, 1.0)),
        _truncated_normals("u", 100.0, (-4.0, 12.0)),
        lambda function, u, mean, log_scale: {"log_density": function(u, mean, log_scale)},
        {"u": 0, "mean": 0, "log_scale": 0},
    ),
    LayerCase(
        "truncated_normal/quantile",
        lambda rng: truncated_normal.quantile,
        _truncated_normals("v", 1.0, (-2.0, 1.0)),
        _truncated_normals("v", 100.0, (-4.0, 12.0)),
        lambda function, v, mean, log_scale: {"u": function(v, mean, log_scale)},
        {"v": 0, "mean": 0, "log_scale": 0},
    ),
    LayerCase(
        "flow_plus_plus/truncated_normal",
        _normal_noise_model,
        images(noise="uniform"),
        images(noise="uniform"),
        elbo,
        BOTH,
        tolerances={"value": DEEP, "layer_batch": DEEP},
        bound=True,
    ),
    LayerCase(
        "uniform_dequantizer/log_prob",
        lambda rng: UniformDequantizer(LEVELS),
        _images_and_u(0.0, 1.0, WIDE),
        _at_the_ends_of_u,
        _log_prob,
        {"x": 0, "u": 0},
    ),
    LayerCase(
        "variational_dequantizer/log_prob",
        variational_dequantizer,
        _images_and_u(0.1, 0.9),
        _images_and_u(1e-3, 0.999),
        _log_prob,
        {"x": 0, "u": 0},
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "augmenter",
        _augmenter,
        _dequantized("noise", 1.0),
        _dequantized("noise", 3.0),
        _sample_e,
        BOTH,
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "augmenter/log_prob",
        _augmenter,
        _dequantized("e", 1.0),
        _dequantized("e", 10.0),
        lambda augmenter, x, e: {"log_q": augmenter.log_prob(x, e)},
        {"x": 0, "e": 0},
        tolerances=CONDITIONAL,
    ),
    LayerCase(
        "flow_plus_plus/variational",
        variational_model,
        images(noise="normal"),
        images(noise="normal", scale=2.0),
        elbo,
        BOTH,
        tolerances={"value": DEEP, "layer_batch": DEEP},
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/uniform",
        _uniform_model,
        images(noise="uniform"),
        images(noise="uniform"),
        elbo,
        BOTH,
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/augmented",
        _augmented_model,
        images(noise="uniform", augment=AUGMENT),
        images(noise="uniform", augment=AUGMENT, scale=2.0),
        elbo,
        BOTH,
        tolerances={"value": DEEP, "layer_batch": DEEP},
        bound=True,
    ),
    LayerCase(
        "flow_plus_plus/augmented_decode",
        _augmented_model,
        _latents(0.5, (12, 2, 2)),
        _latents(2.0, (12, 2, 2)),
        lambda model, z: {"x": model.decode(z)},
        {"z": 0},
        tolerances={"value": DEEP, "layer_batch": DEEP},
    ),
    LayerCase(
        "flow_plus_plus/augmented_initialized",
        _augmented_model,
        images(noise="uniform", augment=AUGMENT, batch=16),
        images(noise="uniform", augment=AUGMENT, batch=16, scale=2.0),
        initialized_elbo,
        tolerances=dict.fromkeys(
            ("value", "layer_batch"), Tolerance(1500, "layer after layer divided by a deviation")
        ),
    ),
    LayerCase(
        "flow_plus_plus/decode",
        variational_model,
        _latents(0.5),
        _latents(2.0),
        lambda model, z: {"x": model.decode(z)},
        {"z": 0},
        tolerances={"value": DEEP, "layer_batch": DEEP},
    ),
    LayerCase(
        "log_normal",
        lambda rng: objective.log_normal,
        _latents(1.0, (4, 2, 3)),
        _latents(100.0, (4, 2, 3)),
        lambda function, z: {"log_prob": function(z)},
        {"z": 0},
    ),
    LayerCase(
        "importance_weighted_bound",
        lambda rng: objective.importance_weighted_bound,
        _log_weights(-2.0, 1.0),
        _log_weights(-7000.0, 100.0),
        lambda function, log_weights: {"bound": function(log_weights)},
        {"log_weights": 1},
    ),
    LayerCase(
        "importance_weighted_bound/uneven",
        lambda rng: objective.importance_weighted_bound,
        _uneven,
        lambda rng: {"log_weights": _uneven(rng)["log_weights"][:, ::-1]},
        lambda function, log_weights: {"bound": function(log_weights)},
        {"log_weights": 1},
    ),
    LayerCase(
        "importance_weighted_bound/zero_weights",
        lambda rng: objective.importance_weighted_bound,
        _zero_weights,
        _zero_weights,
        lambda function, log_weights: {"bound": function(log_weights)},
        {"log_weights": 1},
    ),
    LayerCase(
        "bits_per_dim",
        lambda rng: objective.bits_per_dim,
        lambda rng: {"log_prob": -10.0 * rng.random(BATCH)},
        lambda rng: {"log_prob": -1e4 * rng.random(BATCH)},
        lambda function, log_prob: {"bits": function(log_prob, 12)},
        {"log_prob": 0},
    ),
)
