"""Local bits-back coding: lengths by enumeration of tiny alphabets, exact round trips."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from conformance.cases import LAYER_CASES
from conformance.laws.alphabet import _noise
from reference.bijectors import Affine, Chain, Inverse, InvertibleConv, MixtureLogistic, Sigmoid
from reference.coding import Bins, Coder, CodingError, Normal, Precision, Stack, step_of
from reference.coding.elementwise import Elementwise
from reference.dequantization import VariationalDequantizer
from reference.objective import log_normal

FINE = Precision(delta=2.0**-20, per_level=2**14)
ALPHABETS = [
    name
    for name, case in LAYER_CASES.items()
    if getattr(case, "alphabet", False)
    and case.build(np.random.default_rng(0)).context_encoder is None
]
"""Unconditional models: the coder refuses others."""


def stack_of(bits: int, seed: int = 0) -> Stack:
    return Stack(random.Random(seed).getrandbits(bits) | 1 << bits)


def model_and_images(name: str):
    model = LAYER_CASES[name].build(np.random.default_rng(0))
    width = 1 if model.augmenter is not None else 2
    every = list(itertools.product(range(model.levels), repeat=width))
    return model, np.array(every).reshape(-1, 1, 1, 1, width)


def test_a_stack_is_exact_and_grows_by_the_symbols_information():
    stack = stack_of(200)
    before = stack.state
    symbols = [(0, 1, 8), (3, 5, 8), (7, 1, 8)]  # start, frequency, total
    for start, frequency, total in symbols:
        bits = stack.bits
        stack.push(start, frequency, total)
        assert stack.bits - bits == pytest.approx(np.log2(total / frequency), abs=1e-12)
    for start, frequency, total in reversed(symbols):
        assert start <= stack.peek(total) < start + frequency
        stack.pop(start, frequency, total)
    assert stack.state == before


@pytest.mark.parametrize("mean", [-3.3, 0.0, 0.5, 1e9 + 0.25])
@pytest.mark.parametrize("std", [0.5, 1.0, 7.0, 1e6])
def test_frequencies_of_a_normal_distribution_add_up(mean, std):
    normal = Normal.of(mean, std)
    near = range(round(mean) - 50, round(mean) + 51)
    starts = [normal.start(k) for k in near]
    assert all(a < b for a, b in itertools.pairwise(starts))
    assert normal.start(normal.low) == 0
    assert normal.start(normal.high + 1) == normal.total
    assert Normal.of(mean, std, limit=15).start(16) == Normal.of(mean, std, limit=15).total


def test_numbers_far_from_the_mean_are_coded():
    stack, normal = stack_of(500), Normal.of(0.25, 1.0)
    before = stack.state
    for k in (0, 5, -200, 10**12, -(10**12)):
        normal.push(stack, k)
    assert [normal.pop(stack) for _ in range(5)] == [-(10**12), 10**12, -200, 5, 0]
    assert stack.state == before


def test_what_cannot_be_coded_is_refused():
    for mean, std in ((np.nan, 1.0), (np.inf, 1.0), (0.0, np.nan), (0.0, 0.0), (1e300, 1.0)):
        with pytest.raises(CodingError, match="mean and std must be finite"):
            Normal.of(mean, std)
    with pytest.raises(CodingError, match="an integer must be in 0 ... 3, got 4"):
        Normal.of(1.0, 1.0, limit=3).push(stack_of(100), 4)
    with pytest.raises(CodingError, match="the stack must have"):
        Normal.of(1.0, 1.0).pop(Stack(1))
    with pytest.raises(ValueError, match="sigma must be at least 0.5 bins, got 0.1"):
        Precision(sigma=0.1)


def information(normal: Normal, k: int) -> float:
    return math.log2(normal.total) - math.log2(normal.start(k + 1) - normal.start(k))


def expected_length(slope: float, claimed: float, phases: int = 16) -> float:
    """Bits of the step y = slope x, by the exact sum over all y, averaged over x."""
    step = Elementwise(
        lambda x: (slope * x, np.full(x.shape, np.log(claimed))),
        lambda y: (y / slope, np.full(y.shape, -np.log(claimed))),
        sigma=1.0,
    )
    total = 0.0
    for number in range(1000, 1000 + phases):
        x = Bins.of_width(np.array([[[[number]]]]), 1.0)
        (of_y,) = step._of_y(x, x)
        reach = int(12 * of_y.std)
        for k in range(round(of_y.mean) - reach, round(of_y.mean) + reach + 1):
            popped = information(of_y, k)
            (of_x,) = step._of_x(x.numbered(np.array([[[[k]]]])), x)
            total += 2.0**-popped * (information(of_x, number) - popped)
    return total / phases


@pytest.mark.parametrize("slope", [0.05, 0.3, 0.77, 1.0, 1.7, 6.1])
def test_the_expected_length_of_a_step_is_minus_log2_of_its_slope(slope):
    excess = expected_length(slope, slope) + np.log2(slope)
    assert -1e-6 < excess < 1e-3


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_slope_costs_bits(factor):
    excess = expected_length(1.7, 1.7 * factor) + np.log2(1.7)
    assert excess > 0.005


class Recording(Coder):
    """A coder that keeps the dequantized image."""

    def _dequantized(self, stack, x):
        image = super()._dequantized(stack, x)
        object.__setattr__(self, "image", image)
        return image


def excess_lengths(model, images) -> np.ndarray:
    """Bits of the code of each image beyond those of the bound at the noise that was popped."""
    coder, stack, result = Recording(model, FINE), stack_of(4000), []
    for image in images:
        before = stack.bits
        z = coder.encode(stack, image)
        given = coder.image.values
        log_q = model.dequantizer.log_prob(image, given - image)
        if model.augmenter is not None:
            e = model.flow.inverse(z.values)[0][:, 1:]
            log_q = log_q + model.augmenter.log_prob(given, e)
            given = np.concatenate([given, e], axis=1)
        y, log_det = model.flow.forward(given)
        bound = (log_normal(y) + log_det - log_q) / np.log(2.0)
        result.append(stack.bits - before + float(bound[0]))
    for image in images[::-1]:
        assert (coder.decode(stack, image.shape) == image).all()
    assert stack.state == stack_of(4000).state
    return np.array(result)


def gentle(model):
    """The model without noise that saturates: a sigmoid's edge bins cost bits."""
    if not isinstance(model.dequantizer, VariationalDequantizer):
        return model
    *most, sigmoid = model.dequantizer.flow.bijectors
    narrow = Affine(np.array(-2.5), np.zeros(1))
    flow = Chain((*most, narrow, sigmoid))
    return replace(model, dequantizer=replace(model.dequantizer, flow=flow))


@pytest.mark.parametrize("name", ALPHABETS)
def test_lengths_on_a_tiny_alphabet(name):
    model, images = model_and_images(name)
    model = gentle(model)
    noise, weights = _noise(model, images.shape[2:])
    bounds = np.array([model.elbo(np.repeat(x, len(noise), axis=0), noise).total for x in images])
    probability, mean_bound = np.exp(bounds) @ weights, -(bounds @ weights) / np.log(2.0)
    excess = excess_lengths(model, images)
    assert (np.abs(excess) < 0.03).all()
    # The expected length is the mean bound and the excess: at least -log2 P(x), and on average
    # over images drawn from the model at least its entropy.
    expected = mean_bound + excess
    assert (expected > -np.log2(probability) - 0.03).all()
    entropy = -(probability @ np.log2(probability)) / probability.sum()
    assert 0.0 < probability @ expected / probability.sum() - entropy + 0.01


@pytest.mark.parametrize("name", ALPHABETS)
def test_every_sequence_is_decoded(name):
    model, images = model_and_images(name)
    coder, stack = Coder(model), stack_of(3000)
    before, order = stack.state, np.random.default_rng(3).permutation(len(images))
    for i in order:
        coder.encode(stack, images[i])
    for i in reversed(order):
        assert (coder.decode(stack, images[i].shape) == images[i]).all()
    assert stack.state == before


def test_other_bits_are_refused_or_other_images_of_the_alphabet():
    model, images = model_and_images(ALPHABETS[0])
    for seed in range(20):
        try:
            x = Coder(model).decode(stack_of(3000, seed), images[0].shape)
        except CodingError:
            continue
        assert 0 <= x.min() <= x.max() < model.levels


def test_steps_of_an_inverse_undo_those_of_the_bijector():
    rng = np.random.default_rng(0)
    x = Bins.of_width(rng.integers(-1000, 1000, (2, 2, 1, 2)), 2.0**-10)
    for bijector in (
        Sigmoid(),
        Affine(np.array([[[0.3]], [[-2.0]]]), np.array(0.1)),
        InvertibleConv(np.array([[[0.1, -2.0], [1.5, 0.4]]])),
        MixtureLogistic(*rng.standard_normal((3, 2, 1, 2, 3))),
    ):
        step, stack = step_of(bijector, Precision(delta=2.0**-10)), stack_of(3000)
        before = stack.state
        y = step.encode(stack, x)
        assert (step_of(Inverse(bijector), Precision(delta=2.0**-10)).decode(stack, x).numbers
                != x.numbers).any()  # fmt: skip
        stack.state = stack_of(3000).state
        y = step.encode(stack, x)
        np.testing.assert_allclose(y.values, bijector.forward(x.values)[0], atol=0.02)
        assert (step.decode(stack, y).numbers == x.numbers).all()
        assert stack.state == before
