"""Cases of the networks' layers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from reference.conditioner import Conv2d

from .case import Draw, LayerCase, Tolerance
from .draws import (
    BATCH,
    CONTEXT,
    FILTERS,
    HEADS,
    Rng,
    attention,
    block,
    conditioner,
    conv,
    gated_conv,
    layer_norm,
    maxout,
)
from .rounding import sensitivity, terms_of_conv

HEIGHT, WIDTH = 3, 2
ROUNDING = Tolerance(24, "in units of the rounding of all numbers; 9 seen in 20 seeds")
DIVISION = Tolerance(12, "one division: 3 ulps seen")


def _inputs(
    scale: float,
    channels: int,
    *,
    context: int = 0,
    position: bool = False,
    batch: int = BATCH,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Draw:
    def draw(rng: Rng) -> dict[str, np.ndarray]:
        arguments = {"x": scale * rng.standard_normal((batch, channels, *size))}
        if context:
            arguments["context"] = scale * rng.standard_normal((batch, context, *size))
        if position:
            arguments["position"] = rng.standard_normal((channels, *size))
        return arguments

    return draw


def _layer(name: str, build: Draw, channels: int = FILTERS, **inputs: Any) -> LayerCase:
    return LayerCase(
        name,
        build,
        _inputs(1.0, channels, **inputs),
        _inputs(10.0, channels, **inputs),
        run=lambda layer, **arguments: {"y": layer(**arguments)},
        batched={"x": 0, "context": 0} if "context" in inputs else {"x": 0},
        **_precision(name),
    )


def _dropped(layer: Any) -> Any:
    """Return a layer with dropout, which has no effect outside of training."""
    return dataclasses.replace(layer, dropout=0.5)


def _short_weights(rng: Rng) -> Conv2d:
    """Draw kernels whose norms lie below the floor of weight normalization; one of them is 0."""
    layer = conv(rng, FILTERS, 5, 3, weight_norm=True)
    scale = np.array([0.0, 1e-9, 1e-8, 1e-3, 1.0])
    return dataclasses.replace(layer, weight=scale[:, None, None, None] * layer.weight)


def _not_square(rng: Rng) -> Conv2d:
    """Draw a kernel that is wider than high."""
    layer = conv(rng, FILTERS, 5, 5)
    return dataclasses.replace(layer, weight=layer.weight[:, :, 1:4])


def _far_from_zero(offset: float) -> Draw:
    """Return a draw of numbers whose mean is large compared with their deviation."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        return {"x": offset + rng.standard_normal((BATCH, FILTERS, HEIGHT, WIDTH))}

    return draw


def _precision(name: str) -> dict[str, Any]:
    """Return the tolerances of a case, and the sizes that its rounding errors are measured by."""
    if name.startswith("layer_norm"):
        return {"tolerances": {"value": DIVISION}}
    sizes = terms_of_conv if name.startswith("conv2d") else sensitivity
    return {
        "tolerances": {"value": ROUNDING, "layer_batch": ROUNDING},
        "sizes": lambda layer, **arguments: {"y": sizes(layer, **arguments)},
    }


CASES = (
    _layer("conv2d/plain", lambda rng: conv(rng, FILTERS, 5, 3)),
    _layer("conv2d/one_by_one", lambda rng: conv(rng, FILTERS, 5)),
    # Enough channels and tiles for kernels with another algorithm for 3x3.
    _layer("conv2d/wide", lambda rng: conv(rng, 40, 32, 3), 40, size=(8, 4)),
    _layer("conv2d/wide_odd", lambda rng: conv(rng, 40, 33, 3), 40, size=(5, 7)),
    _layer("conv2d/wide_tall", lambda rng: conv(rng, 32, 32, 3), 32, size=(13, 9)),
    _layer("conv2d/tall", lambda rng: conv(rng, 3, 5, 3), 3, size=(19, 3)),
    _layer("conv2d/one_channel", lambda rng: conv(rng, 1, 1, 3), 1, size=(1, 9)),
    _layer("conv2d/weight_norm", lambda rng: conv(rng, FILTERS, 5, 3, weight_norm=True)),
    _layer("conv2d/weight_norm_floor", _short_weights),
    _layer("conv2d/not_square", _not_square, size=(4, 6)),
    _layer("layer_norm", lambda rng: layer_norm(rng, FILTERS)),
    _layer("layer_norm/one_channel", lambda rng: layer_norm(rng, 1), 1, size=(9, 1)),
    _layer("layer_norm/wide", lambda rng: layer_norm(rng, 33), 33, size=(11, 5)),
    LayerCase(
        "layer_norm/far_from_zero",
        lambda rng: layer_norm(rng, FILTERS),
        _far_from_zero(100.0),
        _far_from_zero(-1000.0),
        run=lambda layer, x: {"y": layer(x)},
        batched={"x": 0},
        tolerances={"value": ROUNDING, "layer_batch": ROUNDING},
        sizes=lambda layer, x: {"y": sensitivity(layer, x=x)},
    ),
    _layer("gated_conv/plain", lambda rng: gated_conv(rng, FILTERS)),
    _layer(
        "gated_conv/with_context",
        lambda rng: gated_conv(rng, FILTERS, context=CONTEXT),
        context=CONTEXT,
    ),
    _layer("gated_conv/dropout", lambda rng: _dropped(gated_conv(rng, FILTERS))),
    _layer("gated_conv/three_by_three", lambda rng: gated_conv(rng, FILTERS, kernel=3)),
    _layer("gated_attention/heads", lambda rng: attention(rng, FILTERS, HEADS), position=True),
    _layer("gated_attention/one_head", lambda rng: attention(rng, FILTERS, 1)),
    _layer(
        "gated_attention/tall",
        lambda rng: attention(rng, 12, 3),
        12,
        position=True,
        size=(9, 5),
    ),
    _layer("gated_attention/dropout", lambda rng: _dropped(attention(rng, FILTERS, HEADS))),
    _layer("gated_maxout/dropout", lambda rng: _dropped(maxout(rng, FILTERS))),
    _layer("gated_maxout", lambda rng: maxout(rng, FILTERS), position=True),
    _layer("block/attention", lambda rng: block(rng), position=True),
    _layer("block/maxout", lambda rng: block(rng, mixing="maxout"), position=True),
    _layer(
        "block/no_attention",
        lambda rng: block(rng, mixing="none", context=CONTEXT),
        context=CONTEXT,
    ),
    _layer("conditioner/plain", lambda rng: conditioner(rng, 3, 7, HEIGHT, WIDTH, blocks=2), 3),
    _layer(
        "conditioner/with_context",
        lambda rng: conditioner(rng, 3, 7, HEIGHT, WIDTH, context=CONTEXT),
        3,
        context=CONTEXT,
    ),
    _layer(
        "conditioner/weight_norm_activate_last",
        lambda rng: conditioner(rng, 3, 7, HEIGHT, WIDTH, weight_norm=True, activate_last=True),
        3,
    ),
    _layer(
        "conditioner/tall",
        lambda rng: conditioner(rng, 1, 5, 9, 5, filters=10, weight_norm=True),
        1,
        size=(9, 5),
    ),
    _layer(
        "conditioner/features",
        lambda rng: conditioner(rng, 3, None, HEIGHT, WIDTH, mixing="none"),
        3,
    ),
)
