from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import distributions as td
from torch.distributions import constraints, transforms

from conformance.adapters.flowpp import from_reference
from conformance.cases import BIJECTOR_CASES
from flowpp.bijectors import (
    Affine,
    Chain,
    ColumnStripes,
    DataLogit,
    Flip,
    Inverse,
    Sigmoid,
    Squeeze,
)
from flowpp.interop import BijectorTransform, ConditionalBijector
from flowpp.objective import log_normal

STANDARD = {name: case for name, case in BIJECTOR_CASES.items() if not name.endswith("/random")}


def case_of(name):
    case, rng = BIJECTOR_CASES[name], np.random.default_rng(0)
    spec = case.build(rng)
    context = None if case.context is None else torch.tensor(case.context(rng))
    return from_reference(spec), torch.tensor(case.typical(rng)), context


def normal(*shape):
    zero = torch.zeros(shape, dtype=torch.float64)
    return td.Independent(td.Normal(zero, zero + 1), 3)


@pytest.mark.parametrize("name", STANDARD)
def test_every_bijector_as_a_transform(name):
    bijector, x, context = case_of(name)
    transform = BijectorTransform(bijector, context)
    want, want_log_det = bijector(x, context)
    y = transform(x)
    torch.testing.assert_close(y, want, rtol=0, atol=0)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), want_log_det)
    assert transform.forward_shape(x.shape) == y.shape
    assert transform.inverse_shape(y.shape) == x.shape
    assert transform.domain.check(x).all() and transform.codomain.check(y).all()
    back, back_log_det = bijector.inverse(y, context)
    got, log_det = transform.inv.call_and_ladj(y)
    torch.testing.assert_close(got, back, rtol=0, atol=0)
    torch.testing.assert_close(log_det, back_log_det)


def test_any_number_of_batch_axes(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    transform = BijectorTransform(coupling, context)
    x = torch.randn(3, 5, 4, 2, 3, dtype=torch.float64)
    y, log_det = transform.call_and_ladj(x)
    assert y.shape == x.shape and log_det.shape == (3, 5)
    alone, alone_log_det = transform.call_and_ladj(x[1, 2])
    assert alone_log_det.shape == ()
    torch.testing.assert_close(alone, y[1, 2])
    torch.testing.assert_close(alone_log_det, log_det[1, 2])
    none, nothing = transform.call_and_ladj(x[:0])
    assert none.shape == (0, 5, 4, 2, 3) and nothing.shape == (0, 5)


def test_a_batch_of_contexts_for_one_image(coupling):
    contexts = torch.randn(7, 4, 2, 3, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, log_det = BijectorTransform(coupling, contexts).call_and_ladj(x)
    assert y.shape == (7, 4, 2, 3) and log_det.shape == (7,)
    one, _ = BijectorTransform(coupling, contexts[3]).call_and_ladj(x)
    torch.testing.assert_close(one, y[3])


def test_density_of_a_transformed_distribution(flow):
    base = normal(4, 2, 2)
    distribution = td.TransformedDistribution(
        base, [BijectorTransform(flow).inv], validate_args=True
    )
    assert distribution.event_shape == (1, 4, 4) and distribution.batch_shape == ()
    x = 256 * torch.rand(3, 1, 4, 4, dtype=torch.float64)
    z, log_det = flow(x)
    torch.testing.assert_close(distribution.log_prob(x), log_normal(z) + log_det)
    drawn = distribution.rsample((2, 3))
    assert drawn.shape == (2, 3, 1, 4, 4)
    assert distribution.support.check(drawn).all()
    assert distribution.log_prob(drawn).isfinite().all()
    with pytest.raises(ValueError, match="support"):
        distribution.log_prob(x + 1000)


def test_composed_with_torch_transforms(flow):
    composed = transforms.ComposeTransform(
        [
            transforms.IndependentTransform(transforms.AffineTransform(0.0, 256.0), 3),
            BijectorTransform(flow),
        ]
    )
    assert composed.domain.event_dim == 3
    u = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    log_det = composed.log_abs_det_jacobian(u, composed(u))
    _, want = flow(256 * u)
    torch.testing.assert_close(log_det, want + 16 * np.log(256.0))


def test_autograd_gives_the_same_determinant(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    transform = BijectorTransform(coupling, context)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(transform, x).reshape(24, 24)
    _, log_det = transform.call_and_ladj(x)
    torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], log_det)


def test_gradients_reach_parameters_and_context(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    transform = BijectorTransform(coupling, context)
    distribution = td.TransformedDistribution(normal(4, 2, 3), [transform.inv])
    loss = -distribution.log_prob(torch.randn(5, 4, 2, 3, dtype=torch.float64)).mean()
    loss.backward()
    assert context.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in coupling.parameters())


class Counting(Sigmoid):
    passes = 0

    def forward(self, x, context=None):
        self.passes += 1
        return super().forward(x)

    def inverse(self, y, context=None):
        self.passes += 1
        return super().inverse(y)


def test_a_cache_saves_the_second_pass():
    bijector = Counting()
    transform = BijectorTransform(bijector).with_cache()
    x = torch.randn(2, 1, 2, 2)
    y = transform(x)
    transform.log_abs_det_jacobian(x, y)
    assert transform.inv(y) is x
    transform.call_and_ladj(x)
    transform.inv.call_and_ladj(y)
    assert bijector.passes == 1
    y = torch.rand(2, 1, 2, 2)
    x, log_det = transform.inv.call_and_ladj(y)
    assert bijector.passes == 2 and transform(x) is y
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), -log_det)
    assert bijector.passes == 2


def test_without_a_cache_every_call_is_a_pass():
    bijector = Counting()
    transform = BijectorTransform(bijector)
    x = torch.randn(2, 1, 2, 2)
    transform.log_abs_det_jacobian(x, transform(x))
    assert bijector.passes == 2
    transform.call_and_ladj(x)
    assert bijector.passes == 3
    assert transform.with_cache(0) is transform
    assert transform.with_cache(1).bijector is bijector


def test_the_inverse_of_the_inverse():
    transform = BijectorTransform(Squeeze())
    assert transform.inv.inv is transform
    assert transform.inv.forward_shape((7, 4, 1, 1)) == (7, 1, 2, 2)


@pytest.mark.parametrize(
    ("bijector", "domain", "codomain"),
    [
        (Sigmoid(), None, (0.0, 1.0)),
        (Inverse(Sigmoid()), (0.0, 1.0), None),
        (DataLogit(18), (-1.0, 19.0), None),
        (Chain((ColumnStripes(), Sigmoid(), Flip())), None, (0.0, 1.0)),
        (Chain((DataLogit(18), Squeeze())), (-1.0, 19.0), None),
        (Chain((Squeeze(), Sigmoid(), Chain((Flip(), Inverse(Squeeze()))))), None, (0.0, 1.0)),
        (Chain((Sigmoid(), Affine(torch.ones(1), torch.ones(1)))), None, None),
        (Chain(()), None, None),
    ],
)
def test_domain_and_codomain(bijector, domain, codomain):
    transform = BijectorTransform(bijector)
    for space, expected in ((transform.domain, domain), (transform.codomain, codomain)):
        assert space.event_dim == 3
        entry = space.base_constraint
        if expected is None:
            assert entry is constraints.real
        else:
            assert (entry.lower_bound, entry.upper_bound) == pytest.approx(expected)


def test_given_domain_and_codomain():
    positive = constraints.independent(constraints.positive, 3)
    transform = BijectorTransform(Chain(()), domain=positive, codomain=positive)
    assert transform.codomain is positive and transform.with_cache().domain is positive


def test_conditional_bijectors_return_transforms(coupling):
    lazy = ConditionalBijector(coupling)
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    assert lazy(context).context is context
    assert lazy.condition(context).bijector is coupling
    assert list(lazy.parameters()) == list(coupling.parameters())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BijectorTransform(torch.nn.Sigmoid()), TypeError, "flowpp bijector, got Sigmoid"),
        (lambda: BijectorTransform(Flip(), torch.ones(2, 3)), ValueError, r"context .*\(2, 3\)"),
        (
            lambda: BijectorTransform(Flip(), codomain=constraints.real),
            ValueError,
            "codomain of event_dim 3, got 0",
        ),
        (lambda: BijectorTransform(Flip(), cache_size=2), ValueError, "cache_size must be 0 or 1"),
        (lambda: BijectorTransform(Flip())(torch.ones(2, 3)), ValueError, r"images .*\(2, 3\)"),
        (
            lambda: BijectorTransform(Flip(), torch.ones(3, 1, 2, 2))(torch.ones(2, 2, 2, 2)),
            ValueError,
            r"broadcasts to the batch \(2,\), got \(3,\)",
        ),
        (lambda: BijectorTransform(Squeeze()).forward_shape((4, 4)), ValueError, r"got \(4, 4\)"),
        (
            lambda: BijectorTransform(Squeeze()).forward_shape((1, 3, 4)),
            ValueError,
            "even height, got 3",
        ),
    ],
)
def test_invalid_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
