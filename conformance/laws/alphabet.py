"""The law that a dequantized model is a distribution over images, checked by enumeration.

P(x) = E over the noise of exp(bound), and E[bound] <= log P(x). There are nine images of two
pixels and three levels, or three of one pixel for an augmented model; the expectations are sums
over a grid of noise. That probabilities sum to at most 1 does not rest on the reference; the rest
of the density lies outside of the images' range.
"""

from __future__ import annotations

import itertools

import numpy as np

from conformance.laws.conditional import drawn_contexts
from conformance.laws.law import Findings
from conformance.laws.layer_trial import Arrays, LayerTrial
from conformance.laws.trial import Violation
from conformance.numerics.compare import Comparison, Unresolved, compare
from reference.dequantization import VariationalDequantizer
from reference.model import FlowPlusPlus

NODES = 16
NODES_OF_U_IN_SPACE = 4
"""The same for the pixels' uniform noise beside that of an augmentation."""
RADIUS = 7.0
"""Range of normal noise: 5e-12 of its mass is outside."""
RESOLVED = 0.1
"""Largest uncertainty of the sum over all images, by quadrature, that it is judged at."""
UNITS = 8
"""Units that the law allows: together the uncertainty."""
COARSE = "quadrature does not resolve the sum over all images"


def discrete_normalization(trial: LayerTrial) -> Findings:
    """Probabilities of all images sum to at most 1, and P(x) = the reference's for each image.

    So for each context of a conditional model.
    """
    if trial.case.contexts is None:
        yield from _normalized(trial)
        return
    for number, context in enumerate(drawn_contexts(trial)):
        for label, finding in _normalized(trial, context):
            yield f"{label}, context {number}", finding


def _normalized(trial: LayerTrial, context: np.ndarray | None = None) -> Findings:
    images, noise, weights, arguments = _grid(trial, context)
    got, want = (
        np.asarray(results["total"], np.float64).reshape(len(images), len(noise))
        for results in (trial.run(arguments), trial.reference(arguments))
    )
    if not np.isfinite(got).all():
        wrong = arguments["x"][~np.isfinite(got).ravel()][0]
        raise Violation(f"the bound is not finite for {wrong.ravel()}")

    probability, bound = np.exp(got) @ weights, got @ weights
    known = np.exp(want) @ weights
    label, total = "sum of the probabilities of all images", float(probability.sum())
    uncertainty = abs(float(known.sum()) - _coarser_sum(trial, context))
    if uncertainty > RESOLVED:
        yield label, Unresolved(1, COARSE)
    else:
        unit = max(float(np.finfo(trial.dtype).eps), uncertainty / UNITS)
        yield label, Comparison(max(0.0, total - 1.0) / unit, (), total, 1.0, unit)
    above = np.maximum(0.0, bound - np.log(known))
    yield "mean bound, at most log P(x)", compare(bound, bound - above, trial.dtype)
    yield "P(x) of each image", compare(probability, known, trial.dtype)


def _coarser_sum(trial: LayerTrial, context: np.ndarray | None) -> float:
    """Return the reference's sum of probabilities from half as many nodes along each axis."""
    images, noise, weights, arguments = _grid(trial, context, fraction=2)
    want = trial.reference(arguments)["total"].reshape(len(images), len(noise))
    return float((np.exp(want) @ weights).sum())


def _grid(
    trial: LayerTrial, context: np.ndarray | None, *, fraction: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Arrays]:
    """Return all images, a grid of noise and its weights, and arguments that combine them."""
    shape = trial.arguments["x"].shape[1:]
    levels = range(trial.spec.levels)
    images = np.array(list(itertools.product(levels, repeat=int(np.prod(shape)))))
    images = images.reshape(-1, *shape).astype(np.uint8)
    noise, weights = _noise(trial.spec, shape, fraction=fraction)
    x, u = np.repeat(images, len(noise), axis=0), np.tile(noise, (len(images), 1, 1, 1))
    # The reference is given the same noise, rounded to the dtype.
    arguments = {"x": x, "noise": u.astype(trial.dtype).astype(np.float64)}
    if context is not None:
        arguments["context"] = np.repeat(context[None], len(x), axis=0)
    return images, noise, weights, arguments


def _noise(
    model: FlowPlusPlus, shape: tuple[int, ...], *, fraction: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of noise `(n, C, H, W)` and its weights `(n,)`, which add up to 1.

    An axis has 1 / `fraction` of the usual nodes.
    """
    channels = 0 if model.augmenter is None else model.augmenter.channels
    pixels, own = int(np.prod(shape)), channels * int(np.prod(shape[1:]))
    normal = _normal(NODES // fraction)
    if isinstance(model.dequantizer, VariationalDequantizer):
        of_u = normal
    else:
        of_u = _uniform((NODES if pixels + own <= 2 else NODES_OF_U_IN_SPACE) // fraction)
    axes = [of_u] * pixels + [normal] * own
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
