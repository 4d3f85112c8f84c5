"""Initial parameters of the bijectors."""

from __future__ import annotations

import pytest
import torch

from flowpp.bijectors import ActNorm, InvertibleConv, InvertibleConvLU


def test_act_norm_starts_as_the_identity_with_a_gain_for_each_channel():
    created = ActNorm.create(3)
    assert created.gain.shape == created.bias.shape == (3, 1, 1)
    assert ActNorm.create(3, 2, 4).gain.shape == (3, 2, 4)
    assert (created.gain == 1).all() and (created.bias == 0).all()


def test_a_convolution_starts_near_the_identity():
    torch.manual_seed(0)
    created = InvertibleConv.create(60, 2)
    noise = created.weight - torch.eye(30)
    assert created.weight.shape == (2, 30, 30)
    assert 0.9e-3 < noise.std() < 1.1e-3 and noise.abs().max() < 6e-3
    assert InvertibleConv.create(3).weight.shape == (1, 3, 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_lu_factors_multiply_to_the_matrix_they_were_made_from(groups):
    weight = torch.randn(groups, 4, 4, dtype=torch.float64, generator=torch.manual_seed(groups))
    made = InvertibleConvLU.from_matrix(weight)
    for triangle, off in ((made.lower, made.lower.triu()), (made.upper, made.upper.tril())):
        assert (off == 0).all() and triangle.shape == weight.shape
    x = torch.randn(2, 4 * groups, 3, 2, dtype=torch.float64)
    (got, log_det), (want, its) = made(x), InvertibleConv(weight)(x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_det, its, rtol=1e-12, atol=1e-12)


def test_an_lu_convolution_starts_as_a_rotation():
    created = InvertibleConvLU.create(6, 2)
    assert created.lower.shape == (2, 3, 3)
    assert InvertibleConvLU.create(3).lower.shape == (1, 3, 3)
    x = torch.randn(4, 6, 2, 2)
    y, log_det = created(x)
    torch.testing.assert_close((y**2).sum(1), (x**2).sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, torch.zeros(4), rtol=0, atol=1e-5)
