"""Cases of data-dependent initialization."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.numerics.specs import is_object
from reference.bijectors import ActNorm, Coupling, InvertibleConv, InvertibleConvLU
from reference.conditioner import Conditioner, Conv2d
from reference.elementwise import MixtureLogisticFamily
from reference.model import FlowPlusPlus

from .case import Draw, LayerCase, Tolerance, Tolerances
from .draws import BATCH, CONTEXT, Rng, act_norm, conditioner, conv, matrices, needs
from .models import images, initialized_elbo, variational_model
from .rounding import terms_of_conv

HEIGHT, WIDTH = 3, 2
EXAMPLES = 16
Sizes = Callable[..., dict[str, np.ndarray]]


def normal_batch(scale: float, channels: int, context: int = 0) -> Draw:
    """Return a draw of a batch, and of its context unless that has no channels."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        counts = {"x": channels} | ({"context": context} if context else {})
        return {
            name: scale * rng.standard_normal((EXAMPLES, count, HEIGHT, WIDTH))
            for name, count in counts.items()
        }

    return draw


def _constant(channels: int) -> Draw:
    """Return a draw of batches in which channels after the first have no variance."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        x = normal_batch(2.0, channels)(rng)["x"]
        x[:, 1:] = np.arange(1.0, channels).reshape(-1, 1, 1)
        return {"x": x}

    return draw


def _far_from_zero(offset: float, channels: int) -> Draw:
    """Return a draw of batches whose mean is large compared with their deviation."""

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        return {"x": offset + normal_batch(1.0, channels)(rng)["x"]}

    return draw


def _zeros(channels: int) -> Draw:
    return lambda rng: {"x": np.zeros((EXAMPLES, channels, HEIGHT, WIDTH))}


def _correlated(scale: float, channels: int, rank: int) -> Draw:
    """Return a draw of channels that are sums of `rank` signals, with means of size 1.

    The signals' directions are orthogonal and their sizes differ by a factor of 4 at most, so
    that the whitening matrix is well conditioned.
    """

    def draw(rng: Rng) -> dict[str, np.ndarray]:
        signals = rng.standard_normal((EXAMPLES, rank, HEIGHT, WIDTH))
        directions = np.linalg.qr(rng.standard_normal((channels, rank)))[0]
        mixing = directions * rng.uniform(0.5, 2.0, rank)
        mean = rng.standard_normal((channels, 1, 1))
        return {"x": scale * (np.einsum("cr,brhw->bchw", mixing, signals) + mean)}

    return draw


def _initialized(
    name: str,
    build: Draw,
    typical: Draw,
    tails: Draw,
    *,
    more: bool = False,
    tolerances: Tolerances | None = None,
    sizes: Sizes | None = None,
) -> LayerCase:
    """Return a case of the layer's output after initialization from its input.

    Args:
        name: Name of the case.
        build: Draw of the layer.
        typical: Draw of its inputs.
        tails: Draw of its inputs in the tails.
        more: Whether the output for other numbers is a result as well: a constant is mapped to
            the mean by any gain.
        tolerances: Tolerances by law.
        sizes: Sizes of the terms of the results, as in `LayerCase`.
    """

    def run(layer: object, **arguments: np.ndarray) -> dict[str, np.ndarray]:
        fitted, _ = needs(layer, "initialize")(*arguments.values())

        def output(*inputs: np.ndarray) -> np.ndarray:
            result = getattr(fitted, "forward", fitted)(*inputs)
            return result[0] if isinstance(result, tuple) else result

        results = {"y": output(*arguments.values())}
        return results | ({"y of more": output(arguments["x"] + 0.5)} if more else {})

    return LayerCase(
        name, build, typical, tails, run=run, tolerances=tolerances or {}, sizes=sizes
    )


def _random(name: str, build: Draw, channels: int, context: int = 0) -> LayerCase:
    return _initialized(
        f"{name}/initialized",
        build,
        normal_batch(2.0, channels, context),
        normal_batch(30.0, channels, context),
    )


def _without_variance(
    name: str, build: Draw, channels: int = 4, *, sizes: Sizes | None = None
) -> LayerCase:
    return _initialized(
        f"{name}/constant", build, _constant(channels), _zeros(channels), more=True, sizes=sizes
    )


def _terms(layer: Conv2d, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sizes of the terms of an initialized convolution.

    Without variance they are up to 1e4 times larger than those of another one, and may cancel.
    """
    fitted, _ = layer.initialize(x)
    return {"y": terms_of_conv(fitted, x), "y of more": terms_of_conv(fitted, x + 0.5)}


def _terms_of_act_norm(layer: ActNorm, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sizes of the two terms that cancel where the mean is large."""
    fitted, _ = layer.initialize(x)
    return {"y": abs(x) * fitted.gain + abs(fitted.bias)}


_AMPLIFIED = Tolerance(200, "directions without variance are amplified 32 times: 27 ulps seen")


def _whitened(
    name: str, groups: int, *, lu: bool = False, rank: int = 6, constant: bool = False
) -> LayerCase:
    """Return a case of a 1x1 convolution of six channels that whitens its input."""

    def build(rng: Rng) -> InvertibleConv | InvertibleConvLU:
        if not lu:
            return InvertibleConv(matrices(rng, groups, 6 // groups), whiten=True)
        size = (groups, 6 // groups)
        return InvertibleConvLU(
            np.argsort(rng.random(size), axis=1),
            rng.standard_normal((*size, size[1])),
            rng.standard_normal((*size, size[1])),
            rng.standard_normal(size),
            rng.choice([-1.0, 1.0], size),
            whiten=True,
        )

    singular = constant or rank < 6
    # Directions without variance are amplified 32 times however large the others are, and so is
    # the rounding of large inputs. Among the smaller inputs some variances lie below the floor.
    scales = (0.1, 0.03) if singular else (1.0, 30.0)
    draws = (_correlated(scales[0], 6, rank), _correlated(scales[1], 6, rank))
    if constant:
        draws = (_constant(6), _zeros(6))
    tolerances = {"value": _AMPLIFIED} if singular else {}
    return _initialized(name, build, *draws, more=singular, tolerances=tolerances)


def _with_mean(rng: Rng, *, weight_norm: bool = False) -> Conv2d:
    layer = conv(rng, 4, 5, 3, weight_norm=weight_norm)
    return dataclasses.replace(layer, init_scale=0.3, init_mean=rng.standard_normal(5))


def _spread_conditioner(rng: Rng) -> Conditioner:
    """Draw the network of a coupling of two channels that starts from a spread mixture."""
    family = MixtureLogisticFamily(3)
    network = conditioner(
        rng, 2, 2 * family.parameters_per_scalar, HEIGHT, WIDTH, weight_norm=True
    )
    last = network.proj_out
    assert last is not None
    last = dataclasses.replace(last, init_scale=0.1, init_mean=np.tile(family.spread(), 2))
    return dataclasses.replace(network, proj_out=last)


def _spread(name: str, components: int) -> LayerCase:
    """Return a case of the parameters that a coupling starts from, with a last layer's output."""

    def draw(scale: float) -> Draw:
        return lambda rng: {"x": scale * rng.standard_normal((BATCH, 2 + 3 * components))}

    def run(family: Any, x: np.ndarray) -> dict[str, np.ndarray]:
        return {"parameters": (x + needs(family, "spread")()).astype(x.dtype)}

    return LayerCase(
        name, lambda rng: MixtureLogisticFamily(components), draw(0.1), draw(10.0), run, {"x": 0}
    )


def _with_recipe(rng: Rng) -> FlowPlusPlus:
    """Draw a model of which initialization whitens and spreads, in flow and dequantizer."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(changed(item) for item in value)
        if not is_object(value):
            return value
        parts = {f.name: changed(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, InvertibleConv):
            parts["whiten"] = True
        if isinstance(value, Coupling):
            count = len(parts["conditioner"].proj_out.bias) // value.family.parameters_per_scalar
            last = dataclasses.replace(
                parts["conditioner"].proj_out,
                init_scale=0.1,
                init_mean=np.tile(value.family.spread(), count),
            )
            parts["conditioner"] = dataclasses.replace(parts["conditioner"], proj_out=last)
        return type(value)(**parts)

    return changed(variational_model(rng))


CASES = (
    _random("conv2d", lambda rng: conv(rng, 4, 5, 3), 4),
    _random("conv2d_weight_norm", lambda rng: conv(rng, 4, 5, 3, weight_norm=True), 4),
    _random("act_norm", lambda rng: act_norm(rng, 4, HEIGHT, WIDTH), 4),
    _random("act_norm_channel", lambda rng: act_norm(rng, 4), 4),
    _initialized(
        "act_norm_channel/far_from_zero",
        lambda rng: act_norm(rng, 4),
        _far_from_zero(100.0, 4),
        _far_from_zero(-1000.0, 4),
        sizes=_terms_of_act_norm,
    ),
    _without_variance("act_norm", lambda rng: act_norm(rng, 4, HEIGHT, WIDTH)),
    _without_variance("act_norm_channel", lambda rng: act_norm(rng, 4)),
    _without_variance("conv2d_one_by_one", lambda rng: conv(rng, 4, 5), sizes=_terms),
    _random(
        "conditioner",
        lambda rng: conditioner(rng, 3, 7, HEIGHT, WIDTH, context=CONTEXT),
        3,
        CONTEXT,
    ),
    _random("conv2d_initial_mean", _with_mean, 4),
    _random("conv2d_initial_mean_weight_norm", lambda rng: _with_mean(rng, weight_norm=True), 4),
    _without_variance("conv2d_initial_mean", _with_mean, sizes=_terms),
    _random("conditioner_spread", _spread_conditioner, 2),
    _spread("mixture_logistic_family/spread", 5),
    _spread("mixture_logistic_family/spread_one_component", 1),
    _whitened("invertible_conv/whitened", 1),
    _whitened("invertible_conv/whitened_halves", 2),
    _whitened("invertible_conv/whitened_constant", 2, constant=True),
    _whitened("invertible_conv/whitened_rank_deficient", 1, rank=3),
    _whitened("invertible_conv_lu/whitened", 1, lu=True),
    _whitened("invertible_conv_lu/whitened_halves", 2, lu=True),
    LayerCase(
        "flow_plus_plus/initialized",
        variational_model,
        images(noise="normal", batch=16),
        images(noise="normal", scale=2.0, batch=16),
        initialized_elbo,
        tolerances={"value": Tolerance(1500, "layer after layer divided by a deviation")},
    ),
    LayerCase(
        "flow_plus_plus/initialized_by_recipe",
        _with_recipe,
        images(noise="normal", batch=16),
        images(noise="normal", scale=2.0, batch=16),
        initialized_elbo,
        tolerances={"value": Tolerance(1500, "layer after layer divided by a deviation")},
    ),
)
