"""Cases of the networks' layers, and of their data-dependent initialization."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Draw, LayerCase, Tolerance, Tolerances
from .draws import (
    BATCH,
    CONTEXT,
    FILTERS,
    HEADS,
    Rng,
    act_norm,
    attention,
    block,
    conditioner,
    conv,
    gated_conv,
    layer_norm,
    maxout,
    needs,
)

HEIGHT, WIDTH = 3, 2
_GATED = Tolerance(250, "inputs of size 10 pass two convolutions and a gate")
GATED = ("gated_conv/plain", "gated_conv/with_context", "gated_maxout")
_SCORES = "scores are several hundreds in the tails; their rounding is a weight's relative error"
SCORES = {
    "gated_attention/heads": (
        Tolerance(4000, _SCORES, "float64"),  # 9e-13; 1200 ulps seen in 20 seeds
        Tolerance(4000, _SCORES, "float32"),
    ),
    # Scores are larger, being sums over more features. 3000 ulps of float64 are 7e-13.
    "gated_attention/one_head": (
        Tolerance(3000, _SCORES, "float64"),
        Tolerance(4000, _SCORES, "float32"),
    ),
}
# The order of summation depends on the batch: up to 930 ulps seen with two threads.
ALONE = (Tolerance(150, _SCORES, "float64"), Tolerance(4000, _SCORES, "float32"))


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
        tolerances=_tolerances(name),
    )


def _tolerances(name: str) -> Tolerances:
    if name in SCORES:
        return {"value": SCORES[name], "layer_batch": ALONE}
    if name == "layer_norm":
        return {"value": Tolerance(12, "one division: 3 ulps seen")}
    return {"value": _GATED, "layer_batch": _GATED} if name in GATED else {}


def _initialized(name: str, build: Draw, channels: int, **inputs: Any) -> LayerCase:
    """Return a case of the layer's output after initialization from its input."""

    def run(layer: object, **arguments: np.ndarray) -> dict[str, np.ndarray]:
        fitted, _ = needs(layer, "initialize")(*arguments.values())
        result = getattr(fitted, "forward", fitted)(*arguments.values())
        return {"y": result[0] if isinstance(result, tuple) else result}

    return LayerCase(
        f"{name}/initialized",
        build,
        _inputs(2.0, channels, batch=16, **inputs),
        _inputs(30.0, channels, batch=16, **inputs),
        run=run,
    )


CASES = (
    _layer("conv2d/plain", lambda rng: conv(rng, FILTERS, 5, 3)),
    _layer("conv2d/one_by_one", lambda rng: conv(rng, FILTERS, 5)),
    # Enough channels and tiles for kernels with another algorithm for 3x3.
    _layer("conv2d/wide", lambda rng: conv(rng, 40, 32, 3), 40, size=(8, 4)),
    _layer("conv2d/weight_norm", lambda rng: conv(rng, FILTERS, 5, 3, weight_norm=True)),
    _layer("layer_norm", lambda rng: layer_norm(rng, FILTERS)),
    _layer("gated_conv/plain", lambda rng: gated_conv(rng, FILTERS)),
    _layer(
        "gated_conv/with_context",
        lambda rng: gated_conv(rng, FILTERS, context=CONTEXT),
        context=CONTEXT,
    ),
    _layer("gated_attention/heads", lambda rng: attention(rng, FILTERS, HEADS), position=True),
    _layer("gated_attention/one_head", lambda rng: attention(rng, FILTERS, 1)),
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
        "conditioner/features",
        lambda rng: conditioner(rng, 3, None, HEIGHT, WIDTH, mixing="none"),
        3,
    ),
    _initialized("conv2d", lambda rng: conv(rng, 4, 5, 3), 4),
    _initialized("conv2d_weight_norm", lambda rng: conv(rng, 4, 5, 3, weight_norm=True), 4),
    _initialized("act_norm", lambda rng: act_norm(rng, 4, HEIGHT, WIDTH), 4),
    _initialized("act_norm_channel", lambda rng: act_norm(rng, 4), 4),
    _initialized(
        "conditioner",
        lambda rng: conditioner(rng, 3, 7, HEIGHT, WIDTH, context=CONTEXT),
        3,
        context=CONTEXT,
    ),
)
