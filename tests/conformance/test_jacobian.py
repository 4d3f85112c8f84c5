from __future__ import annotations

import numpy as np
import pytest

from conformance.numerics.jacobian import derivative, inverse_or_inf, jacobian


def linear(matrix):
    def bijection(x, context=None):
        y = x.reshape(len(x), -1) @ matrix.T
        return y.reshape(x.shape), np.full(len(x), np.linalg.slogdet(matrix)[1])

    return bijection


def elementwise(function):
    return lambda x, context=None: (function(x), np.zeros(len(x)))


@pytest.mark.parametrize("size", [1, 4, 12])
def test_a_linear_map_gives_its_matrix(size):
    rng = np.random.default_rng(size)
    matrix = rng.standard_normal((size, size)) + 2 * np.eye(size)
    found = jacobian(linear(matrix), rng.standard_normal((2, size, 1, 1)))
    np.testing.assert_allclose(found.matrix, [matrix, matrix], atol=1e-11)
    log_det, uncertainty = found.log_det()
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], atol=1e-10)
    assert (uncertainty < 1e-9).all()


def test_rows_are_outputs_and_columns_inputs():
    matrix = np.array([[1.0, 5.0], [0.0, 1.0]])
    found = jacobian(linear(matrix), np.zeros((1, 2, 1, 1)))
    np.testing.assert_allclose(found.matrix[0], matrix, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 1.0, 1e3])
def test_steep_and_flat_maps_are_resolved(scale):
    x = scale * np.linspace(-3, 3, 7).reshape(1, 7, 1, 1)
    found = jacobian(elementwise(lambda v: np.tanh(v / scale)), x)
    want = np.log((1 - np.tanh(x / scale) ** 2) / scale).sum()
    log_det, uncertainty = found.log_det()
    assert abs(log_det[0] - want) < 1e-8 and uncertainty[0] < 1e-7


def test_the_uncertainty_is_not_smaller_than_the_error():
    rng = np.random.default_rng(0)
    noisy = elementwise(lambda v: np.sin(v) + 1e-9 * rng.standard_normal(v.shape))
    x = np.array([0.1, 0.7, -1.2]).reshape(1, 3, 1, 1)
    found = jacobian(noisy, x, noise=np.full((1, 4), 3e-9))  # as for a root finder
    log_det, uncertainty = found.log_det()
    assert abs(log_det[0] - np.log(np.cos(x)).sum()) < uncertainty[0]
    assert uncertainty[0] > 1e-10


def test_rounding_of_large_values_adds_to_the_uncertainty():
    found = jacobian(elementwise(lambda v: 1e8 + 1e-6 * v), np.ones((1, 1, 1, 1)))
    assert found.log_det()[1][0] > 1e-4


def test_a_flat_map_is_singular_not_plausible():
    log_det, uncertainty = jacobian(elementwise(np.zeros_like), np.ones((2, 3, 1, 1))).log_det()
    assert np.isnan(log_det).all() and np.isinf(uncertainty).all()


def test_nan_of_the_map_stays_nan():
    found = jacobian(elementwise(lambda v: v * np.nan), np.ones((1, 2, 1, 1)))
    assert np.isnan(found.matrix).all() and np.isnan(found.log_det()[0]).all()


def test_the_edge_of_a_domain_is_approached():
    x = np.full((1, 1, 1, 1), 1e-3)  # the first steps lead to the logarithm of negative numbers
    found = jacobian(elementwise(np.log), x)
    assert found.matrix[0, 0, 0] == pytest.approx(1e3, rel=1e-9)


def test_gradient_of_the_log_det_and_context_of_each_example():
    def bijection(x, context):
        s = context[:, :, None, None] * np.sin(x)
        return x + 0 * s, s.sum((1, 2, 3))

    x = np.array([[0.3, 0.9], [1.5, -2.0]]).reshape(2, 2, 1, 1)
    context = np.array([[1.0], [10.0]])
    found = jacobian(bijection, x, context)
    np.testing.assert_allclose(
        found.log_det_gradient, context * np.cos(x).reshape(2, 2), atol=1e-9
    )


def test_fixed_batch_and_stacked_agree():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 2, 1))
    scale = rng.uniform(0.5, 2.0, (3, 1, 1, 1))
    per_example = jacobian(
        lambda v, context=None: (np.sinh(scale * v), np.zeros(len(v))), x, fixed_batch=True
    )
    shared = jacobian(lambda v, context: (np.sinh(context * v), np.zeros(len(v))), x, scale)
    np.testing.assert_allclose(per_example.matrix, shared.matrix, rtol=1e-9)


def test_inverse_of_flat_and_singular_matrices():
    diagonal = np.diag([2.0, 0.0])
    singular = np.array([[1.0, 1.0], [1.0, 1.0]])
    regular = np.array([[2.0, 1.0], [0.0, 1.0]])
    a, b, c = inverse_or_inf(np.stack([diagonal, singular, regular]))
    assert a[0, 0] == 0.5 and np.isinf(a[1, 1])
    assert np.isinf(b).all()
    np.testing.assert_allclose(c @ regular, np.eye(2), atol=1e-15)


def test_derivative_of_one_number():
    value, error = derivative(lambda t: float(np.exp(3 * t)))
    assert value == pytest.approx(3.0, rel=1e-10) and error < 1e-7
