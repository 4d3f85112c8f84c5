"""flowpp's bijectors and models inside Pyro: `tox -e libraries`."""

from __future__ import annotations

import pytest
import torch

from conditional import conditional_model
from flowpp.bijectors import ActNorm, Chain, InvertibleConv
from flowpp.interop import (
    BijectorTransform,
    ConditionalBijector,
    ConditionalFlowPlusPlus,
    FlowPlusPlusDistribution,
)
from tiny import TINY

pyro = pytest.importorskip("pyro", reason="Pyro is not installed: tox -e libraries")
dist = pyro.distributions
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def fresh():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


def standard_normal(*shape, dtype=torch.float64):
    zero = torch.zeros(shape, dtype=dtype)
    return dist.Normal(zero, zero + 1).to_event(3)


def test_a_flow_as_the_prior_of_a_model_trains():
    """Maximize the density of observed images by stochastic variational inference."""
    bijector = Chain((ActNorm.create(2), InvertibleConv.create(2))).double()
    images = 2.0 + 0.1 * torch.randn(20, 2, 2, 2, dtype=torch.float64)

    def model():
        pyro.module("flow", bijector)
        transform = BijectorTransform(bijector)
        flow = dist.TransformedDistribution(standard_normal(2, 2, 2), [transform.inv])
        with pyro.plate("images", len(images)):
            return pyro.sample("x", flow, obs=images)

    svi = pyro.infer.SVI(
        model, lambda: None, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
    )
    losses = [svi.step() for _ in range(150)]
    assert losses[-1] < losses[0] - 200
    assert any(name.startswith("flow$$$") for name in pyro.get_param_store())
    trace = pyro.poutine.trace(model).get_trace()
    assert trace.nodes["x"]["fn"].batch_shape == (20,)


def test_composed_with_pyro_transforms_and_caches(coupling):
    context = torch.randn(4, 2, 3, dtype=torch.float64)
    channels = dist.transforms.GeneralizedChannelPermute(4).double()
    mine = BijectorTransform(coupling, context, cache_size=1)
    distribution = dist.TransformedDistribution(
        standard_normal(4, 2, 3),
        [mine, dist.transforms.Permute(torch.tensor([2, 0, 1, 3]), dim=-3), channels],
    )
    x = distribution.rsample((5,))
    kept = distribution.log_prob(x)
    torch.testing.assert_close(kept, distribution.log_prob(x.clone()))
    assert kept.shape == (5,)


def test_conditioned_on_a_context(coupling):
    dist.conditional.ConditionalTransform.register(ConditionalBijector)
    flow = dist.ConditionalTransformedDistribution(
        standard_normal(4, 2, 3), [ConditionalBijector(coupling)]
    )
    contexts = torch.randn(6, 4, 2, 3, dtype=torch.float64)
    conditioned = flow.condition(contexts)
    x = conditioned.sample((6,))
    z, log_det = coupling.inverse(x, contexts)
    want = standard_normal(4, 2, 3).log_prob(z) + log_det
    torch.testing.assert_close(conditioned.log_prob(x), want)


def test_a_flow_as_a_guide(coupling):
    """Fit a flow as the guide of a shifted normal, by reparametrized samples."""
    context = torch.zeros(4, 2, 3, dtype=torch.float64)
    target = standard_normal(4, 2, 3)

    def model():
        pyro.sample("z", target)

    def guide():
        pyro.module("guide", coupling)
        transform = BijectorTransform(coupling, context, cache_size=1)
        pyro.sample("z", dist.TransformedDistribution(standard_normal(4, 2, 3), [transform]))

    elbo = pyro.infer.Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=0)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
    losses = [svi.step() for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])


class PyroFlowPlusPlus(FlowPlusPlusDistribution, dist.torch_distribution.TorchDistributionMixin):
    """A distribution with the mixin that `pyro.sample` requires."""


def test_a_model_as_a_pyro_distribution(model):
    images = PyroFlowPlusPlus(model, (1, 4, 4)).sample((8,))

    def program(observed=None):
        pyro.module("flow_plus_plus", model)
        with pyro.plate("images", 8):
            return pyro.sample("x", PyroFlowPlusPlus(model, (1, 4, 4)), obs=observed)

    assert program().shape == (8, 1, 4, 4)
    trace = pyro.poutine.trace(program).get_trace(images)
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].shape == (8,)
    svi = pyro.infer.SVI(
        program,
        lambda observed=None: None,
        pyro.optim.Adam({"lr": 1e-3}),
        pyro.infer.Trace_ELBO(),
    )
    losses = [svi.step(images) for _ in range(15)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_a_model_of_labels_in_a_program():
    """Images given labels that are latent in the program."""
    dist.conditional.ConditionalDistribution.register(ConditionalFlowPlusPlus)
    model = conditional_model(TINY.model, (1, 8, 8), 17, "labels")
    images_of = ConditionalFlowPlusPlus(model, (1, 8, 8), distribution=PyroFlowPlusPlus)
    assert isinstance(images_of, dist.ConditionalDistribution)

    def program():
        with pyro.plate("images", 5):
            label = pyro.sample("label", dist.Categorical(torch.ones(3)))
            return pyro.sample("x", images_of.condition(label))

    trace = pyro.poutine.trace(program).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["x"]["value"].shape == (5, 1, 8, 8)
    assert trace.nodes["x"]["log_prob"].shape == (5,)
