"""Initializations that whiten a batch, spread mixtures, and shift a convolution's output."""

from __future__ import annotations

import dataclasses

import mpmath
import numpy as np
import pytest
import scipy.linalg

from reference.bijectors import InvertibleConv, InvertibleConvLU
from reference.bijectors.invertible_conv import whitening
from reference.conditioner import Conv2d
from reference.elementwise import MixtureLogisticFamily

RNG = np.random.default_rng(12)
HALVES = InvertibleConv(RNG.standard_normal((2, 2, 2)))
LU = InvertibleConvLU(
    permutation=[[1, 0], [0, 1]],
    lower=RNG.standard_normal((2, 2, 2)),
    upper=RNG.standard_normal((2, 2, 2)),
    log_diagonal=RNG.standard_normal((2, 2)),
    signs=[[1, -1], [-1, -1]],
)


def images():
    return np.random.default_rng(14).standard_normal((2, 4, 2, 2))


def correlated(count, seed=13):
    """Return a batch whose covariance has eigenvalues from about 0.1 to 10, with means."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((count, count)))[0] * np.logspace(-0.5, 0.5, count)
    x = np.einsum("cr,brhw->bchw", mixing, rng.standard_normal((20, count, 3, 4)))
    return x + rng.standard_normal((count, 1, 1))


@pytest.mark.parametrize("bijector", [HALVES, LU], ids=["InvertibleConv", "InvertibleConvLU"])
def test_whitening_is_the_inverse_root_of_the_covariance(bijector):
    x = correlated(4)
    fitted, y = dataclasses.replace(bijector, whiten=True).initialize(x)
    np.testing.assert_array_equal(y, fitted.forward(x)[0])
    assert fitted.whiten
    for g in range(2):
        columns = np.moveaxis(x[:, 2 * g : 2 * g + 2], 1, 0).reshape(2, -1)
        covariance = np.cov(columns, bias=True)
        want = scipy.linalg.inv(scipy.linalg.sqrtm(covariance))
        np.testing.assert_allclose(fitted.weight[g], want, rtol=0, atol=1e-12 * np.abs(want).max())
        output = np.moveaxis(y[:, 2 * g : 2 * g + 2], 1, 0).reshape(2, -1)
        np.testing.assert_allclose(np.cov(output, bias=True), np.eye(2), atol=1e-11)


def test_whitening_agrees_with_mpmath():
    x = correlated(3)
    columns = mpmath.matrix(np.moveaxis(x, 1, 0).reshape(3, -1).tolist())
    with mpmath.workdps(40):
        means = [mpmath.fsum(columns[i, :]) / columns.cols for i in range(3)]
        centred = mpmath.matrix(3, columns.cols)
        for i in range(3):
            for j in range(columns.cols):
                centred[i, j] = columns[i, j] - means[i]
        values, axes = mpmath.eigsy(centred * centred.T / columns.cols)
        roots = mpmath.diag([1 / mpmath.sqrt(v) for v in values])
        want = np.array((axes * roots * axes.T).tolist(), dtype=float)
    np.testing.assert_allclose(whitening(x, 1)[0], want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_whitening_amplifies_by_at_most_the_floor():
    x = images()
    x[:, 1:] = 3.0
    weight = InvertibleConv(np.eye(4)[None], whiten=True).initialize(x)[0].weight[0]
    want = np.diag([1 / x[:, 0].std(), *[1e-3**-0.5] * 3])
    np.testing.assert_allclose(weight, want, atol=1e-12)


def test_a_batch_that_is_not_finite_is_not_whitened():
    x = images()
    x[0, 1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="whitening needs finite inputs, got 1 that are not"):
        InvertibleConv(np.eye(4)[None], whiten=True).initialize(x)


def test_nothing_is_whitened_unless_asked_for():
    fitted, y = HALVES.initialize(images())
    assert fitted is HALVES
    np.testing.assert_array_equal(y, HALVES.forward(images())[0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_spread_mixture_has_its_stated_components(count):
    family = MixtureLogisticFamily(count)
    mixture, affine = family(family.spread().reshape(1, 1, 1, 1, -1)).bijectors
    k = np.arange(count)
    want = -1.5 + 3.0 * k / (count - 1) if count > 1 else [0.0]
    np.testing.assert_allclose(mixture.means.ravel(), want, atol=1e-15)
    np.testing.assert_allclose(np.exp(mixture.log_scales), 0.6, rtol=1e-15)
    assert not mixture.logits.any() and not affine.log_scale.any() and not affine.shift.any()


@pytest.mark.parametrize("gain", [None, np.array([1.0, 0.5, 2.0, 3.0])])
def test_a_convolution_is_fitted_to_its_initial_mean(gain):
    rng = np.random.default_rng(1)
    mean = np.array([-2.0, 0.0, 0.5, 3.0])
    layer = Conv2d(rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4), gain, 0.1)
    x = rng.standard_normal((16, 3, 4, 4)) + 2.0
    fitted, y = dataclasses.replace(layer, init_mean=mean).initialize(x)
    np.testing.assert_allclose(y, layer.initialize(x)[1] + mean[:, None, None], atol=1e-12)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), mean, atol=1e-12)
    np.testing.assert_array_equal(fitted.init_mean, mean)
