"""Certificates of `solve_with_certificate`, verified by evaluation for hard mixtures.

A root is proven if its residual is within an ulp of the target, or if neither neighbouring float
has a smaller one: the mixture then steps over the target between two floats.
"""

from __future__ import annotations

import pytest
import torch

from flowpp.kernels.mixture_logistic import inverse_logit_cdf, logit_cdf, solve_with_certificate

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = [torch.float32, torch.float64]
POINTS = 1000
EVALUATIONS = {torch.float32: 40, torch.float64: 65}


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed, low, high):
    numbers = torch.rand(
        POINTS, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return low + (high - low) * numbers


def mixture(dtype, *, target=None, logit=1.0, mean=1.0, log_scales=None):
    target = 3 * normal(0, POINTS) if target is None else target
    log_scales = 0.7 * normal(3, POINTS, 4) - 1 if log_scales is None else log_scales
    arguments = target, logit * normal(1, POINTS, 4), mean * normal(2, POINTS, 4), log_scales
    return [a.to(dtype) for a in arguments]


def cancelling(dtype):
    """Mixtures whose root is nearly 0, the difference of a mean and t e^s."""
    target, scale = 3 * normal(0, POINTS), 3 * normal(3, POINTS, 1)
    mean = -target[:, None] * scale.to(dtype).double().exp()
    return [a.to(dtype) for a in (target, torch.zeros(POINTS, 1), mean, scale)]


def largest_mean(dtype):
    return torch.finfo(dtype).max / 20


HARD = {
    "ordinary": mixture,
    "wide_and_narrow": lambda dtype: mixture(dtype, log_scales=uniform(3, -30, 30)),
    "far_targets": lambda dtype: mixture(
        dtype, target=torch.exp(14 * uniform(5, 0, 1)[:, 0]) * torch.sign(normal(0, POINTS))
    ),
    "cancelling": cancelling,
    "one_dominant_component": lambda dtype: mixture(dtype, logit=5e3),
    "means_of_all_sizes": lambda dtype: mixture(dtype, mean=largest_mean(dtype)),
}


def proven(arguments, root, *, ulps=2.0):
    """Return whether each root is within `ulps` of its target, or better than its neighbours."""
    target, *parameters = arguments
    infinity = torch.full_like(root, torch.inf)

    def distance(x):
        return (logit_cdf(x, *parameters)[0] - target).abs()

    here = distance(root)
    best = (here <= distance(torch.nextafter(root, -infinity))) & (
        here <= distance(torch.nextafter(root, infinity))
    )
    allowed = ulps * torch.finfo(root.dtype).eps * target.abs().clamp(min=1)
    # The inverse may sum components in another order than the forward pass does.
    return (here <= allowed) | best | (here <= distance_between_floats(root, parameters))


def distance_between_floats(root, parameters):
    """Return the change of y between neighbouring floats, which bounds attainable residuals."""
    infinity = torch.full_like(root, torch.inf)
    left, right = (logit_cdf(torch.nextafter(root, s * infinity), *parameters)[0] for s in (-1, 1))
    return right - left


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", HARD)
def test_every_root_is_proven(name, dtype):
    arguments = HARD[name](dtype)
    found = solve_with_certificate(*arguments)
    assert torch.isfinite(found.root).all()
    assert torch.isfinite(found.residual).all()
    assert proven(arguments, found.root).all()
    assert found.evaluations.max() <= EVALUATIONS[dtype] + (name == "means_of_all_sizes")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_residual_is_that_of_the_returned_root(dtype):
    arguments = HARD["wide_and_narrow"](dtype)
    found = solve_with_certificate(*arguments)
    again = logit_cdf(found.root, *arguments[1:])[0] - arguments[0]
    slack = 4 * torch.finfo(dtype).eps * arguments[0].abs().clamp(min=1)
    assert ((again - found.residual).abs() <= slack).all()
    infinity = torch.full_like(found.root, torch.inf)
    spacing = torch.nextafter(found.root.abs(), infinity) - found.root.abs()
    closed = found.width <= 2 * spacing + torch.finfo(dtype).tiny
    assert (closed | (found.residual.abs() <= slack)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_components_narrower_than_the_spacing_of_floats(dtype):
    """e^-s overflows, and y jumps over the target at a mean: the residual is large but correct."""
    limit = 80.0 if dtype == torch.float32 else 700.0
    arguments = mixture(dtype, log_scales=uniform(3, -limit - 120, -limit))
    found = solve_with_certificate(*arguments)
    assert torch.isfinite(found.root).all()
    assert proven(arguments, found.root).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_roots_near_the_largest_number_are_found_and_those_beyond_raise(dtype):
    limit = 80.0 if dtype == torch.float32 else 700.0
    target, *parameters = mixture(dtype, log_scales=uniform(3, limit, limit + 12))
    ends = torch.full_like(target, torch.finfo(dtype).max)
    low, high = (logit_cdf(s * ends, *parameters)[0] for s in (-1, 1))
    reached = (low < target) & (target < high)
    assert 0.2 < reached.double().mean() < 0.9  # both kinds occur

    inside = [a[reached] for a in (target, *parameters)]
    assert proven(inside, solve_with_certificate(*inside).root).all()
    for index in torch.nonzero(~reached)[:20, 0]:
        outside = [a[index : index + 1] for a in (target, *parameters)]
        with pytest.raises(RuntimeError, match="no root for 1 of 1"):
            solve_with_certificate(*outside)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_on_a_plateau_wider_than_any_density(dtype):
    """Between two distant components each dx/dmu is 1/2, although every dy/dz underflows."""
    y = torch.zeros(1, dtype=dtype)
    logits, log_scales = (torch.zeros(1, 2, dtype=dtype) for _ in range(2))
    means = torch.tensor([[-1e5, 1e5]], dtype=dtype, requires_grad=True)
    (by_mean,) = torch.autograd.grad(inverse_logit_cdf(y, logits, means, log_scales).sum(), means)
    torch.testing.assert_close(by_mean, torch.full_like(means, 0.5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_means_whose_sum_overflows(dtype):
    """Arguments and result are finite, but the sum of the means is not."""
    means = torch.full((1, 32), torch.finfo(dtype).max / 8, dtype=dtype)
    logits, log_scales = torch.zeros_like(means), torch.zeros_like(means)
    y, log_derivative = logit_cdf(means[:, 0], logits, means, log_scales)
    assert y.item() == 0.0
    assert log_derivative.item() == pytest.approx(0.0, abs=1e-6)
    root = solve_with_certificate(torch.zeros(1, dtype=dtype), logits, means, log_scales).root
    assert root.item() == means[0, 0].item()
