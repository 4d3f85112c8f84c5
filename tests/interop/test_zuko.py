"""flowpp's bijectors inside zuko: `tox -e libraries`."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as td

from flowpp.bijectors import ActNorm, Affine, Chain, ColumnStripes, InvertibleConv
from flowpp.interop import BijectorTransform, ConditionalBijector
from flowpp.objective import log_normal

zuko = pytest.importorskip("zuko", reason="zuko is not installed: tox -e libraries")
pytestmark = pytest.mark.filterwarnings("default")


def standard_normal(*shape):
    zero = torch.zeros(shape, dtype=torch.float64)
    return td.Independent(td.Normal(zero, zero + 1), 3)


def test_density_and_samples_of_a_normalizing_flow(flow):
    distribution = zuko.distributions.NormalizingFlow(
        BijectorTransform(flow), standard_normal(4, 2, 2)
    )
    assert distribution.event_shape == (1, 4, 4)
    x = 256 * torch.rand(3, 1, 4, 4, dtype=torch.float64)
    z, log_det = flow(x)
    torch.testing.assert_close(distribution.log_prob(x), log_normal(z) + log_det)
    drawn, log_prob = distribution.rsample_and_log_prob((2, 5))
    assert drawn.shape == (2, 5, 1, 4, 4)
    torch.testing.assert_close(distribution.log_prob(drawn), log_prob)


def test_a_zuko_base_reshaped_to_images(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    base = zuko.distributions.BoxUniform(*(torch.full((4, 2, 3), b).double() for b in (-5, 5)))
    distribution = zuko.distributions.NormalizingFlow(BijectorTransform(coupling, context), base)
    x = 0.1 * torch.randn(7, 4, 2, 3, dtype=torch.float64)
    _, log_det = coupling(x, context.expand(7, -1, -1, -1))
    torch.testing.assert_close(
        distribution.log_prob(x), log_det - 24 * torch.log(torch.tensor(10.0, dtype=torch.float64))
    )


def test_composed_with_zuko_transforms(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    scale, shift = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    composed = zuko.transforms.ComposedTransform(
        BijectorTransform(coupling, context),
        zuko.transforms.MonotonicAffineTransform(shift, scale),
        BijectorTransform(ColumnStripes()).inv,
    )
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    y, log_det = composed.call_and_ladj(x)
    assert y.shape == (2, 2, 2, 6) and log_det.shape == (2,)
    assert composed.forward_shape(x.shape) == y.shape
    matrix = torch.autograd.functional.jacobian(composed, x[:1]).reshape(24, 24)
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(matrix)[1])
    torch.testing.assert_close(composed.inv(y), x)


def test_a_lazy_flow_with_a_context_trains(coupling):
    """All parameters of a flow of zuko's and flowpp's parts are found, and the loss decreases."""
    lazy = zuko.lazy.Flow(
        [
            ConditionalBijector(Chain((ActNorm.create(4), InvertibleConv.create(4)))),
            zuko.lazy.UnconditionalTransform(
                zuko.transforms.MonotonicAffineTransform,
                torch.zeros(4, 1, 1),
                torch.zeros(4, 1, 1),
            ),
            ConditionalBijector(coupling),
        ],
        zuko.lazy.UnconditionalDistribution(
            zuko.distributions.DiagNormal, torch.zeros(4, 2, 3), torch.ones(4, 2, 3), buffer=True
        ),
    ).double()
    assert set(coupling.parameters()) <= set(lazy.parameters())
    x = 1.0 + 0.3 * torch.randn(32, 4, 2, 3, dtype=torch.float64)
    context = torch.randn(32, 4, 2, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(lazy.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = -lazy(context).log_prob(x).sum() / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 5
    assert lazy(context[:3]).sample((2,)).shape == (2, 3, 4, 2, 3)


def test_zuko_inverts_through_an_affine_chain():
    chain = Chain((Affine(torch.ones(1), torch.ones(1)), Affine(torch.zeros(1), torch.ones(1))))
    transform = BijectorTransform(chain)
    x = torch.randn(2, 1, 2, 2)
    torch.testing.assert_close(transform.inv(transform(x)), x)
