"""The contract of every bijector: shapes, log-dets by the full Jacobian, inverses, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bijector_cases import FIRST_CASES
from reference.bijectors import (
    ActNorm,
    Affine,
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)
from reference.elementwise import AffineFamily, MixtureLogisticFamily


def local_conditioner(outputs, seed=0):
    """Return a conditioner: waves in a and the context that differ between the outputs."""
    rates = np.random.default_rng(seed).uniform(0.5, 2.0, (outputs, 1, 1))

    def conditioner(a, context=None):
        raw = np.sin(rates * a.sum(axis=1, keepdims=True) + 3.0 * rates)
        return raw if context is None else raw + context

    return conditioner


RNG = np.random.default_rng(12)
SHAPE = (2, 4, 2, 2)
LU = InvertibleConvLU(
    permutation=[[1, 0], [0, 1]],
    lower=RNG.standard_normal((2, 2, 2)),
    upper=RNG.standard_normal((2, 2, 2)),
    log_diagonal=RNG.standard_normal((2, 2)),
    signs=[[1, -1], [-1, -1]],
)
AFFINE = Affine(RNG.standard_normal((4, 1, 2)), RNG.standard_normal((2, 4, 2, 2)))
COUPLING = Coupling(local_conditioner(4), AffineFamily())
MIXTURE_COUPLING = Coupling(local_conditioner(2 * 11), MixtureLogisticFamily(3, -7.0))
ACT_NORM = ActNorm(RNG.uniform(0.5, 2, (4, 2, 2)), RNG.standard_normal((4, 2, 2)))
ACT_NORM_CHANNEL = ActNorm(RNG.uniform(0.5, 2, (4, 1, 1)), RNG.standard_normal((4, 1, 1)))
HALVES = InvertibleConv(RNG.standard_normal((2, 2, 2)))


def images(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE)


@dataclass(frozen=True)
class Example:
    """A bijector, inputs by seed, and a context if it takes one."""

    bijector: Bijector
    images: Callable[[int], np.ndarray] = images
    context: np.ndarray | None = None

    def forward(self, x):
        return self.bijector.forward(x, self.context)

    def inverse(self, y):
        return self.bijector.inverse(y, self.context)


def example_of(case):
    """Return a conformance case's bijector with typical inputs."""
    rng = np.random.default_rng(0)
    return Example(
        case.build(rng),
        lambda seed: case.typical(np.random.default_rng(seed)),
        case.context and case.context(rng),
    )


EXAMPLES = {name: example_of(case) for name, case in FIRST_CASES.items()} | {
    "act_norm_activation": Example(ACT_NORM),
    "act_norm_channel": Example(ACT_NORM_CHANNEL),
    "affine_per_example": Example(AFFINE),
    "chain_of_three": Example(Chain((Flip(), AFFINE, Squeeze()))),
    "chain_empty": Example(Chain(())),
    "coupling_affine": Example(COUPLING),
    "coupling_mixture": Example(MIXTURE_COUPLING),
    "data_logit_of_sigmoid": Example(Chain((Sigmoid(), DataLogit(8)))),
    "factor_out_coupling": Example(FactorOut(Coupling(local_conditioner(2), AffineFamily()))),
    "inverse_affine": Example(Inverse(Affine(RNG.standard_normal((4, 1, 1)), np.zeros(1)))),
    "inverse_of_a_split": Example(Inverse(ColumnStripes())),
    "invertible_conv_joint": Example(InvertibleConv(RNG.standard_normal((1, 4, 4)))),
    "invertible_conv_halves": Example(HALVES),
    "invertible_conv_lu_halves": Example(LU),
    "mixture_logistic_five": Example(MixtureLogistic(*RNG.standard_normal((3, 4, 2, 2, 5)))),
}
"""The first conformance case of every bijector, and further variants."""


def slogdet_of_jacobian(function, x):
    """Compute log|det| of the full Jacobian of one example by central differences."""
    step = 1e-5
    flat = x.ravel()
    columns = []
    for i in range(flat.size):
        up, down = flat.copy(), flat.copy()
        up[i] += step
        down[i] -= step
        columns.append((function(up) - function(down)).ravel() / (2.0 * step))
    return np.linalg.slogdet(np.stack(columns, axis=1)).logabsdet


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
class TestEvery:
    def test_log_det_is_that_of_the_full_jacobian(self, example):
        x = example.images(0)
        y, log_det = example.forward(x)
        assert y.dtype == np.float64 and log_det.shape == (len(x),)
        for b in range(len(x)):
            # Parameters may differ by example, so the other examples stay unchanged.
            def one(flat, b=b):
                changed = x.copy()
                changed[b] = flat.reshape(x.shape[1:])
                return example.forward(changed)[0][b]

            np.testing.assert_allclose(log_det[b], slogdet_of_jacobian(one, x[b]), atol=1e-7)

    def test_inverse(self, example):
        x = example.images(1)
        y, log_det = example.forward(x)
        back, inverse_log_det = example.inverse(y)
        assert inverse_log_det.shape == (len(x),)
        np.testing.assert_allclose(back, x, atol=1e-12)
        np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-11)

    def test_nan_stays_nan(self, example):
        x = example.images(2)
        x[0, 0, 0, 0] = np.nan
        for output, _ in (example.forward(x), example.inverse(example.forward(x)[0])):
            assert np.isnan(output[0]).any()
            assert not np.isnan(output[1]).any()

    def test_input_is_left_alone(self, example):
        x = example.images(3)
        before = x.copy()
        example.forward(x)[0][...] = 7.0
        np.testing.assert_array_equal(x, before)

    def test_integers_are_accepted(self, example):
        x = np.ones_like(example.images(0), dtype=np.uint8)
        for got, want in zip(example.forward(x), example.forward(x.astype(float)), strict=True):
            np.testing.assert_array_equal(got, want)

    def test_other_inputs_are_refused(self, example):
        with pytest.raises(ValueError, match=r"needs .*\(batch, .* got \(4, 2\)"):
            example.forward(np.zeros((4, 2)))
        with pytest.raises(TypeError, match="needs real numbers in its input, got complex128"):
            example.inverse(np.zeros(SHAPE, dtype=complex))

    def test_initialized_gives_the_same_kind_and_its_output(self, example):
        x = example.images(4)
        fitted, y = example.bijector.initialize(x, example.context)
        assert type(fitted) is type(example.bijector)
        np.testing.assert_allclose(fitted.forward(x, example.context)[0], y, atol=1e-12)


def test_act_norm_fits_per_activation_and_per_channel():
    x = 3.0 * np.random.default_rng(5).standard_normal((64, 4, 2, 2)) + 1.0
    for shape, axes in (((4, 2, 2), 0), ((4, 1, 1), (0, 2, 3))):
        fitted, y = ActNorm(np.ones(shape), np.zeros(shape)).initialize(x)
        assert fitted.gain.shape == fitted.bias.shape == shape
        np.testing.assert_allclose(y.mean(axis=axes), 0.0, atol=1e-12)
        np.testing.assert_allclose(y.var(axis=axes), 1.0, atol=1e-7)


def test_act_norm_floors_its_gain():
    bijector = ActNorm(np.full((1, 1, 1), -3.0), np.zeros((1, 1, 1)))
    y, log_det = bijector.forward(np.ones((1, 1, 2, 3)))
    np.testing.assert_array_equal(y, 1e-10)
    np.testing.assert_allclose(log_det, 6 * np.log(1e-10))


def test_coupling_leaves_the_first_half_and_uses_the_context():
    bijector, x = COUPLING, images(6)
    context = np.ones((2, 4, 2, 2))
    y, _ = bijector.forward(x, context)
    np.testing.assert_array_equal(y[:, :2], x[:, :2])
    assert not np.allclose(y, bijector.forward(x)[0])
    np.testing.assert_allclose(bijector.inverse(y, context)[0], x, atol=1e-12)


def test_coupling_parameters_are_channel_major():
    """The parameters of channel 0 come first: its shift is 1, that of channel 1 is 2."""

    def conditioner(a, context=None):
        raw = np.zeros((len(a), 4, *a.shape[2:]))
        raw[:, 1], raw[:, 3] = 1.0, 2.0
        return raw

    y, _ = Coupling(conditioner, AffineFamily()).forward(np.zeros((1, 4, 1, 1)))
    np.testing.assert_array_equal(y.ravel(), [0.0, 0.0, 1.0, 2.0])


def test_mixture_family_order_and_floor():
    raw = np.arange(2.0 + 3 * 2).reshape(1, 1, 1, 1, 8) - 9.0
    mixture, affine = MixtureLogisticFamily(2, -2.5)(raw).bijectors
    np.testing.assert_array_equal(affine.log_scale, np.tanh(raw[..., 0]))
    np.testing.assert_array_equal(affine.shift, raw[..., 1])
    np.testing.assert_array_equal(mixture.logits.ravel(), [-7.0, -6.0])
    np.testing.assert_array_equal(mixture.means.ravel(), [-5.0, -4.0])
    np.testing.assert_array_equal(mixture.log_scales.ravel(), [-2.5, -2.0])
    assert MixtureLogisticFamily(2)(raw).bijectors[0].log_scales.min() == -3.0


def test_invertible_conv_is_the_stated_sum():
    x = images(7)
    weight = np.random.default_rng(8).standard_normal((2, 2, 2))
    y, _ = InvertibleConv(weight).forward(x)
    for g in range(2):
        for i in range(2):
            want = sum(weight[g, i, j] * x[:, 2 * g + j] for j in range(2))
            np.testing.assert_allclose(y[:, 2 * g + i], want, atol=1e-14)


def test_invertible_conv_lu_is_the_stated_product():
    x = images(9)
    for g in range(2):
        lower = np.tril(LU.lower[g], -1) + np.eye(2)
        upper = np.triu(LU.upper[g], 1) + np.diag(LU.signs[g] * np.exp(LU.log_diagonal[g]))
        want = (lower @ upper)[LU.permutation[g]]
        np.testing.assert_allclose(LU.weight[g], want)
    plain = InvertibleConv(LU.weight)
    for direction in ("forward", "inverse"):
        got, want = getattr(LU, direction)(x), getattr(plain, direction)(x)
        np.testing.assert_allclose(got[0], want[0], atol=1e-12)
        np.testing.assert_allclose(got[1], want[1], atol=1e-12)


@pytest.mark.parametrize(
    "weight, complaint",
    [
        (np.zeros((1, 2, 2)), "singular one, group 0"),
        ([np.eye(2), [[0.1, 0.2], [0.3, 0.6]]], "singular one, group 1"),
        ([np.eye(3) + 0 * np.nan], "finite"),
        ([[[np.inf, 0], [0, 1]]], "finite weight, got 1 values"),
        (np.zeros((2, 2)), "weight with 3 axes"),
        (np.zeros((1, 2, 3)), r"shape \(G, c, c\), got \(1, 2, 3\)"),
    ],
)
def test_invertible_conv_refuses(weight, complaint):
    with pytest.raises(ValueError, match=f"InvertibleConv needs .*{complaint}"):
        InvertibleConv(weight)


def test_invertible_conv_accepts_any_scale():
    bijector = InvertibleConv([np.diag([1e-200, 1.0, 1e200, 1e-3])])
    x = images(10)
    y, log_det = bijector.forward(x)
    np.testing.assert_allclose(log_det, 4 * np.log(1e-3))
    np.testing.assert_allclose(bijector.inverse(y)[0], x)


@pytest.mark.parametrize(
    "wrong, complaint",
    [
        ({"permutation": [[0, 0], [0, 1]]}, "needs permutations of 0 ... 1"),
        ({"signs": [[1, 0.5], [1, 1]]}, r"needs signs \+1 or -1"),
        ({"lower": np.zeros((2, 3, 3))}, r"needs lower \(2, 2, 2\), got \(2, 3, 3\)"),
    ],
)
def test_invertible_conv_lu_refuses(wrong, complaint):
    names = ("permutation", "lower", "upper", "log_diagonal", "signs")
    fields = {name: getattr(LU, name) for name in names}
    with pytest.raises(ValueError, match=complaint):
        InvertibleConvLU(**{**fields, **wrong})


def test_splits_follow_their_docstrings():
    x = np.arange(2 * 2 * 4.0).reshape(1, 2, 2, 4)
    checkerboard, stripes = Checkerboard().forward(x)[0], ColumnStripes().forward(x)[0]
    for c in range(2):
        for i in range(2):
            for j in range(2):
                assert checkerboard[0, c, i, j] == x[0, c, i, 2 * j + i % 2]
                assert checkerboard[0, 2 + c, i, j] == x[0, c, i, 2 * j + 1 - i % 2]
                assert stripes[0, c, i, j] == x[0, c, i, 2 * j]
                assert stripes[0, 2 + c, i, j] == x[0, c, i, 2 * j + 1]
    squeezed = Squeeze().forward(x)[0]
    for dy in (0, 1):
        for dx in (0, 1):
            for c in range(2):
                want = x[0, c, dy::2, dx::2]
                np.testing.assert_array_equal(squeezed[0, (2 * dy + dx) * 2 + c], want)
    np.testing.assert_array_equal(Flip().forward(x)[0], x[:, ::-1])


@pytest.mark.parametrize(
    "bijector, shape, complaint",
    [
        (Coupling(None, AffineFamily()), (1, 3, 2, 2), "Coupling .* even .* channels, got 3"),
        (Flip(), (1, 3, 2, 2), "Flip needs an even number of channels, got 3"),
        (ChannelSplit(), (1, 3, 2, 2), "ChannelSplit needs an even number of channels, got 3"),
        (FactorOut(Flip()), (1, 3, 2, 2), "FactorOut needs an even number of channels, got 3"),
        (FactorOut(Squeeze()), (1, 2, 2, 2), r"FactorOut .* keeps the shape \(1, 1, 2, 2\)"),
        (Checkerboard(), (1, 3, 2, 5), "Checkerboard needs an even width, got 5"),
        (ColumnStripes(), (1, 3, 2, 5), "ColumnStripes needs an even width, got 5"),
        (Squeeze(), (1, 3, 3, 2), "Squeeze needs an even height, got 3"),
        (Squeeze(), (1, 3, 2, 3), "Squeeze needs an even width, got 3"),
        (Inverse(Squeeze()), (1, 6, 2, 2), "Squeeze inverse .* of 4 .* channels, got 6"),
        (HALVES, (1, 3, 2, 2), "InvertibleConv needs 4 channels"),
        (LU, (1, 6, 2, 2), r"InvertibleConvLU needs 4 channels, got 6"),
        (ACT_NORM, (1, 4, 2, 3), r"ActNorm .* \(4, 2, 3\) or \(4, 1, 1\)"),
        (AFFINE, (2, 4, 3, 2), "Affine needs shift broadcastable to"),
    ],
)
def test_impossible_shapes_are_refused(bijector, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        bijector.forward(np.zeros(shape))


def test_a_conditioner_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"Coupling .* \(2, 22, 2, 2\) .*got \(2, 21"):
        Coupling(local_conditioner(21), MixtureLogisticFamily(3)).forward(images())


def test_chain_and_inverse_take_bijectors_only():
    with pytest.raises(TypeError, match="Chain needs bijectors, got a int"):
        Chain((Flip(), 3))
    with pytest.raises(TypeError, match="Inverse needs a bijector, got a str"):
        Inverse("Flip")
    with pytest.raises(TypeError, match="abstract"):
        Bijector()


def test_fields_cannot_be_changed():
    with pytest.raises(AttributeError):
        ACT_NORM_CHANNEL.gain = 1.0
    with pytest.raises(ValueError, match="read-only"):
        ACT_NORM_CHANNEL.gain[0] = 1.0
