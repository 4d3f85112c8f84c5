"""The law that a dequantized model is a distribution over images, checked by enumeration.

P(x) = E over the noise of exp(bound), and E[bound] <= log P(x). There are nine images of two
pixels and three levels, or three of one pixel for an augmented model; the expectations are sums
over a grid of noise.
"""

from __future__ import annotations

import itertools

import numpy as np

from conformance.laws.conditional import drawn_contexts
from conformance.laws.law import Findings
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Violation
from conformance.numerics.compare import Comparison, compare
from reference.dequantization import VariationalDequantizer
from reference.model import FlowPlusPlus

NODES = 16
NODES_IN_SPACE = 8
"""The same for noise of three dimensions."""
RADIUS = 7.0
"""Range of normal noise: 5e-12 of its mass is outside."""


def discrete_normalization(trial: LayerTrial) -> Findings:
    """Sum of exp(bound) over all images at most 1, and P(x) = the reference's for each image.

    So for each context of a conditional model.
    """
    if trial.case.contexts is None:
        yield from _normalized(trial)
        return
    for number, context in enumerate(drawn_contexts(trial)):
        for label, finding in _normalized(trial, context):
            yield f"{label}, context {number}", finding


def _normalized(trial: LayerTrial, context: np.ndarray | None = None) -> Findings:
    shape = trial.arguments["x"].shape[1:]
    levels = range(trial.spec.levels)
    images = np.array(list(itertools.product(levels, repeat=int(np.prod(shape)))))
    images = images.reshape(-1, *shape).astype(np.uint8)
    noise, weights = _noise(trial.spec, shape)

    x, u = np.repeat(images, len(noise), axis=0), np.tile(noise, (len(images), 1, 1, 1))
    # The reference is given the same noise, rounded to the dtype.
    u = u.astype(trial.dtype).astype(np.float64)
    arguments = {"x": x, "noise": u}
    if context is not None:
        arguments["context"] = np.repeat(context[None], len(x), axis=0)
    got, want = (
        np.asarray(results["total"], np.float64).reshape(len(images), len(noise))
        for results in (trial.run(arguments), trial.reference(arguments))
    )
    if not np.isfinite(got).all():
        raise Violation(f"the bound is not finite for {x[~np.isfinite(got).ravel()][0].ravel()}")

    probability, bound = np.exp(got) @ weights, got @ weights
    excess = max(0.0, float(np.exp(bound).sum()) - 1.0)
    unit = float(np.finfo(trial.dtype).eps)
    yield (
        "sum of exp(bound) over all images",
        Comparison(excess / unit, (), 1.0 + excess, 1.0, unit),
    )
    above = np.maximum(0.0, bound - np.log(probability))
    yield "mean bound, at most log P(x)", compare(bound, bound - above, trial.dtype)
    yield "P(x) of each image", compare(probability, np.exp(want) @ weights, trial.dtype)


def _noise(model: FlowPlusPlus, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of noise `(n, C, H, W)` and its weights `(n,)`, which add up to 1."""
    channels = 0 if model.augmenter is None else model.augmenter.channels
    pixels, own = int(np.prod(shape)), channels * int(np.prod(shape[1:]))
    count = NODES if pixels + own <= 2 else NODES_IN_SPACE
    of_u = _normal if isinstance(model.dequantizer, VariationalDequantizer) else _uniform
    axes = [of_u(count)] * pixels + [_normal(count)] * own
    nodes, weights = (
        np.stack([a.ravel() for a in np.meshgrid(*parts, indexing="ij")], axis=1)
        for parts in zip(*axes, strict=True)
    )
    return nodes.reshape(-1, shape[0] + channels, *shape[1:]), weights.prod(axis=1)


def _uniform(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the uniform distribution on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(count)
    return 0.5 * (node + 1.0), 0.5 * weight


def _normal(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the standard normal distribution."""
    node = np.linspace(-RADIUS, RADIUS, 2 * count + 1)
    weight = np.exp(-0.5 * node * node)
    return node, weight / weight.sum()
