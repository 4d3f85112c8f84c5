"""A dequantized model is a distribution over images: on a tiny alphabet, by counting.

P(x) = E over the noise of exp(bound), and E[bound] <= log P(x). Images of two pixels and three
levels are nine; the expectations are sums over a grid of noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Violation
from conformance.numerics.compare import Comparison, compare
from reference.dequantization import UniformDequantizer
from reference.model import FlowPlusPlus

NODES = 16
REACH = 7.0
"""Of normal noise: 5e-12 of it is left out."""


def discrete_normalization(trial: LayerTrial) -> Iterator[tuple[str, Comparison]]:
    """Summed over all images, exp(bound) is at most 1, and the probabilities are the true ones."""
    shape = trial.arguments["x"].shape[1:]
    levels = range(trial.spec.levels)
    pictures = np.array(list(itertools.product(levels, repeat=int(np.prod(shape)))))
    pictures = pictures.reshape(-1, *shape).astype(np.uint8)
    noise, weights = _noise(trial.spec, shape)

    x, u = np.repeat(pictures, len(noise), axis=0), np.tile(noise, (len(pictures), 1, 1, 1))
    # What is tried is rounded to the dtype; the truth is computed for the same numbers.
    u = u.astype(trial.dtype).astype(np.float64)
    got, want = (
        np.asarray(bounds, np.float64).reshape(len(pictures), len(noise))
        for bounds in (trial.run({"x": x, "noise": u})["total"], _want(trial, x, u))
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
    yield "mean bound, which log P(x) is never below", compare(bound, bound - above, trial.dtype)
    yield "P(x) of each image", compare(probability, np.exp(want) @ weights, trial.dtype)


def _want(trial: LayerTrial, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return trial.case.run(trial.spec, x=x, noise=u)["total"]


def _noise(model: FlowPlusPlus, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """((n, C, H, W), (n,)): a grid of noise and its weights, which add up to 1."""
    count = int(np.prod(shape))
    if isinstance(model.dequantizer, UniformDequantizer):
        node, weight = np.polynomial.legendre.leggauss(NODES)
        node, weight = 0.5 * (node + 1.0), 0.5 * weight
    else:
        node = np.linspace(-REACH, REACH, 2 * NODES + 1)
        weight = np.exp(-0.5 * node * node)
        weight = weight / weight.sum()
    nodes = np.stack([a.ravel() for a in np.meshgrid(*[node] * count, indexing="ij")], axis=1)
    weights = np.prod(np.meshgrid(*[weight] * count, indexing="ij"), axis=0).ravel()
    return nodes.reshape(-1, *shape), weights
