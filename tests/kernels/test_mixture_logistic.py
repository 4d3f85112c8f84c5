"""The mixture against hundred-digit arithmetic, its gradients against differences.

Unit of error, u: eps max(1, |truth|). Inputs are rounded to the dtype first, so that only the
arithmetic is measured.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpmath import mp

from flowpp.kernels.backend import use_backend
from flowpp.kernels.mixture_logistic import (
    inverse_logit_cdf,
    logit_cdf,
    packed_inverse_logit_cdf,
    packed_logit_cdf,
    solve_with_certificate,
)
from mpmath_truth import DIGITS, exact, mixture_logistic

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = [torch.float32, torch.float64]
MAGNITUDES = [0.0, 1e-3, 1.0, 5.0, 10.0, 30.0, 100.0, 1e3]


def draw(components, points, dtype, seed, *, log_scales=(-12.0, 6.0), logit_size=1.0):
    """Draw points of all magnitudes, in units of x or of a scale, and `(points, components)`."""
    rng = np.random.default_rng(seed)
    logits = logit_size * rng.standard_normal((points, components))
    means = 2 * rng.standard_normal((points, components))
    scales = rng.uniform(*log_scales, (points, components))
    magnitude = rng.choice(MAGNITUDES, points) * rng.choice([-1, 1], points)
    k = rng.integers(components, size=points)
    rows = np.arange(points)
    local = means[rows, k] + np.exp(scales[rows, k]) * magnitude
    x = np.where(rng.random(points) < 0.5, magnitude, local)
    return [torch.from_numpy(a).to(dtype) for a in (x, logits, means, scales)]


def truth(x, logits, means, log_scales):
    with mp.workdps(DIGITS):
        return mixture_logistic(
            x.item(), *(p.double().numpy() for p in (logits, means, log_scales))
        )


def errors(got, expected, dtype):
    """Return each error in units of u."""
    with mp.workdps(DIGITS):
        unit = torch.finfo(dtype).eps
        return np.array(
            [
                float(abs(exact(g) - w) / (unit * max(1, abs(w))))
                for g, w in zip(got, expected, strict=True)
            ]
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [1, 4, 32])
def test_value_and_log_derivative_against_the_truth(components, dtype):
    arguments = draw(components, 150, dtype, seed=components)
    y, log_derivative = logit_cdf(*arguments)
    expected = [truth(*row) for row in zip(*arguments, strict=True)]
    assert errors(y.tolist(), [w[0] for w in expected], dtype).max() <= 3
    assert errors(log_derivative.tolist(), [w[1] for w in expected], dtype).max() <= 16


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("components", [1, 2, 31, 32, 33, 64, 256, 512])
def test_many_nearly_equal_components(components, far):
    """Plain sums of so many terms of one sign would lose up to 64 ulps."""
    generator = torch.Generator().manual_seed(components)
    x, mean, log_scale = torch.randn(3, 60, generator=generator, dtype=torch.float64)
    x = 30 * x if far else 2 * x
    spread = torch.logspace(-9, -1, 60, dtype=torch.float64) * (torch.arange(60) % 4 > 0)
    noise = torch.randn(3, components, 60, generator=generator, dtype=torch.float64)
    logits, means, log_scales = (spread * noise).mT
    parameters = logits, means + mean[:, None], log_scales + 0.7 * log_scale[:, None]
    single = [t.float().requires_grad_() for t in (x, *parameters)]
    double = [t.detach().double().requires_grad_() for t in single]
    results = []
    for arguments in (single, double):
        y, slope = logit_cdf(*arguments)
        by_x = torch.autograd.grad(y.sum(), arguments[0])[0]
        results.append([y.double(), slope.double(), by_x.double()])
    eps = torch.finfo(torch.float32).eps
    unit = results[1][0].abs().clamp(min=1)
    units = [unit, results[1][1].abs().clamp(min=1), results[1][2] * unit]
    for got, expected, size, allowed in zip(*results, units, (5, 16, 16), strict=True):
        assert ((got - expected).abs() / (eps * size)).max() <= allowed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [1, 4, 128])
def test_extreme_arguments_stay_finite(components, dtype):
    rng = np.random.default_rng(components)
    shape = (2000, components)
    x = rng.choice([-1.0, 1.0], 2000) * 10.0 ** rng.uniform(-30, 30, 2000)
    # The smallest scale is bounded so that y, at most |x| / scale, does not overflow.
    logits, scales = rng.uniform(-1e4, 1e4, shape), rng.uniform(-30, 30, shape)
    scales = np.maximum(scales, np.log(np.abs(x))[:, None] - 80)
    means = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, (2000, 1))
    x[:2], means[:2] = 0.0, 0.0
    scales[2:4], means[2:4], logits[2:4] = -5.0, 1.0, 0.0  # identical components
    y, log_derivative = logit_cdf(
        *(torch.from_numpy(a).to(dtype) for a in (x, logits, means, scales))
    )
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_derivative).all()


def test_y_that_overflows_is_the_infinity_of_its_sign():
    zero = torch.zeros(2, 1)
    y, log_derivative = logit_cdf(torch.tensor([-1e30, 1e30]), zero, zero, zero - 30)
    assert y.tolist() == [-torch.inf, torch.inf]
    assert log_derivative.tolist() == [30, 30]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", range(4))
def test_non_finite_arguments_give_nan(which, value):
    arguments = draw(3, 4, torch.float32, seed=0)
    arguments[which][1 if which == 0 else (1, 2)] = value
    y, log_derivative = logit_cdf(*arguments)
    bad = torch.tensor([False, True, False, False])
    assert torch.equal(torch.isnan(y), bad)
    assert torch.equal(torch.isnan(log_derivative), bad)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("output", [0, 1])
def test_non_finite_arguments_give_gradients_of_nan(which, value, output):
    arguments = draw(3, 40, torch.float32, seed=0, log_scales=(-1.0, 1.0))
    arguments[which][7 if which == 0 else (7, 2)] = value
    leaves = [t.requires_grad_() for t in arguments]
    for gradient in torch.autograd.grad(logit_cdf(*leaves)[output].sum(), leaves):
        is_nan = gradient.isnan().reshape(40, -1)
        assert is_nan[7].all() and is_nan.sum() == is_nan[7].numel()


@pytest.mark.parametrize("function", [logit_cdf, inverse_logit_cdf])
def test_gradients_to_second_order(function):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, dtype=torch.float64, generator=generator)
    parameters = [torch.randn(6, 3, dtype=torch.float64, generator=generator) for _ in range(3)]
    parameters[1][0, 1] = x[0]  # some z is exactly 0: |z| and sign z have kinks there
    arguments = [t.requires_grad_() for t in (x, *parameters)]
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_in_the_tails_is_the_derivative(dtype):
    x, logits, means, scales = draw(4, 500, dtype, seed=3, log_scales=(-3.0, 3.0))
    x.requires_grad_()
    y, log_derivative = logit_cdf(x, logits, means, scales)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    eps = torch.finfo(dtype).eps
    allowed = 64 * eps * torch.exp(log_derivative) * y.abs().clamp(min=1)
    assert ((gradient - torch.exp(log_derivative)).abs() <= allowed).all()
    assert torch.isfinite(gradient).all()


LIMITS = {torch.float32: 40, torch.float64: 65}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [1, 4, 32, 128])
def test_every_target_needs_at_most_the_allowed_evaluations(components, dtype):
    rng = np.random.default_rng(components)
    _, logits, means, scales = draw(components, 3000, dtype, seed=components)
    target = rng.standard_normal(3000) * 10.0 ** rng.uniform(-1, 6, 3000)
    target = torch.from_numpy(target).clamp(-1e6, 1e6).to(dtype)
    result = solve_with_certificate(target, logits, means, scales)
    assert torch.isfinite(result.root).all()
    assert result.evaluations.max() <= LIMITS[dtype]
    # The residual is within 2 u, or as small as neighbouring floats x permit. Where these are
    # several u apart, the error of y, up to 3 u, may decide between the two.
    unit = torch.finfo(dtype).eps * target.abs().clamp(min=1)
    missed = result.residual.abs() > 2 * unit
    far = result.residual.abs() > 3 * unit
    infinity = torch.full_like(target, torch.inf)
    below = logit_cdf(torch.nextafter(result.root, -infinity), logits, means, scales)[0]
    above = logit_cdf(torch.nextafter(result.root, infinity), logits, means, scales)[0]
    straddled = (below <= target) & (target <= above)
    assert (straddled | ~far).all()
    assert (straddled | ~missed).double().mean() > 0.999


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_roots_against_the_truth(dtype):
    _, logits, means, scales = draw(4, 100, dtype, seed=8, log_scales=(-2.0, 1.0))
    target = (10 * torch.randn(100, generator=torch.Generator().manual_seed(0))).to(dtype)
    result = solve_with_certificate(target, logits, means, scales)
    for goal, root, *row in zip(target, result.root, logits, means, scales, strict=True):
        y, slope = truth(root, *row)
        unit = torch.finfo(dtype).eps * max(1, abs(goal.item()))
        # 3 u for evaluation and stopping rule, and the change of y over an ulp of x.
        ulp = abs(torch.nextafter(root, torch.tensor(torch.inf, dtype=dtype)) - root).item()
        assert abs(float(y - exact(goal))) <= 3 * unit + ulp * float(mp.exp(slope))


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [4, 16])
def test_staircases_need_at_most_the_allowed_evaluations(components, dtype, backend):
    """Steps as narrow as e^-30 at means of 1e-4 ... 1e12, with plateaus between them."""
    rng = np.random.default_rng(components)
    size = (3000, components)
    arguments = (
        np.sign(rng.standard_normal(3000)) * np.exp(rng.uniform(-7, np.log(1e6), 3000)),
        50 * rng.standard_normal(size),
        rng.standard_normal(size) * 10 ** rng.uniform(-4, 12, (3000, 1)),
        rng.uniform(-30, 30, size),
    )
    with use_backend(backend):
        found = solve_with_certificate(*(torch.from_numpy(a).to(dtype) for a in arguments))
    assert found.evaluations.max() <= LIMITS[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_step_on_a_ramp_needs_at_most_the_allowed_evaluations(dtype):
    """On the ramp each halving gains little, and Newton's steps overshoot the step."""
    rng = np.random.default_rng(3)
    ramp, step = rng.uniform(0, 25, 3000), rng.uniform(-30, -10, 3000)
    mean = -np.exp(ramp) * rng.uniform(0.01, 1, 3000)
    w = rng.uniform(0.05, 0.95, 3000)
    below = (1 - w) / (1 + np.exp(-mean * np.exp(-ramp)))
    cdf = below + w * rng.uniform(0, 1, 3000)
    far = np.exp(-1) / (1 + np.exp(-1))
    cdf = (1 - far) * cdf + far
    arguments = (
        np.log(cdf) - np.log1p(-cdf),
        np.stack([np.log(1 - w), np.log(w), np.full(3000, -1.0)], 1),
        np.stack([0 * mean, mean, -(10 ** rng.uniform(8, 20, 3000))], 1),
        np.stack([ramp, step, rng.uniform(-30, 0, 3000)], 1),
    )
    found = solve_with_certificate(*(torch.from_numpy(a).to(dtype) for a in arguments))
    assert found.evaluations.max() <= LIMITS[dtype]


@pytest.mark.parametrize("method", ["newton", "bisection"])
def test_a_non_finite_target_gives_nan_and_delays_no_other(method):
    parameters = (torch.zeros(4, 2), torch.tensor([-1.0, 1.0]), torch.zeros(4, 2))
    target = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5])
    found = solve_with_certificate(target, *parameters, method=method, tolerance=1e-3)
    assert torch.isnan(found.root).tolist() == [True, True, True, False]
    assert found.evaluations.max() < 30


@pytest.mark.parametrize(
    ("dtype", "log_scale"), [(torch.float32, -110.0), (torch.float64, -760.0)]
)
def test_a_scale_that_underflows_has_its_root_at_the_mean(dtype, log_scale):
    parameters = [torch.tensor([[v]], dtype=dtype) for v in (0.0, 0.0, log_scale)]
    for target in (1.0, -2.0, 1e6):
        found = solve_with_certificate(torch.tensor([target], dtype=dtype), *parameters)
        assert found.root.abs() <= 1e7 * torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def test_gradients_of_the_inverse_on_a_plateau_are_not_nan():
    """dx/dy overflows there; the third component's weight is 0."""
    logits, means = torch.tensor([[0.0, 0.0, -1e4]]), torch.tensor([[-1e3, 1e3, 0.0]])
    y = torch.zeros(1, requires_grad=True)
    logits.requires_grad_()
    x = inverse_logit_cdf(y, logits, means, torch.zeros(1, 3))
    by_logits, by_y = torch.autograd.grad(x, (logits, y), retain_graph=True)
    assert by_y.item() == torch.inf
    assert by_logits.tolist() == [[-torch.inf, torch.inf, 0.0]]
    nothing = torch.autograd.grad(x, (logits, y), torch.zeros(1), retain_graph=True)
    assert all((g == 0).all() for g in nothing)
    upstream = torch.zeros(1, requires_grad=True)
    (first,) = torch.autograd.grad(x, y, upstream, create_graph=True)
    assert torch.isfinite(torch.autograd.grad(first, y)[0]).all()


def test_bisection_stops_by_width_or_by_its_cap():
    _, logits, means, scales = draw(4, 50, torch.float64, seed=1, log_scales=(-2.0, 1.0))
    target = torch.linspace(-5, 5, 50, dtype=torch.float64)
    newton = solve_with_certificate(target, logits, means, scales)
    parameters = (target, logits, means, scales)
    found = solve_with_certificate(*parameters, method="bisection", tolerance=1e-6)
    assert found.width.max() <= 1e-6
    assert (found.root - newton.root).abs().max() <= 1e-6
    few = solve_with_certificate(*parameters, method="bisection", max_evaluations=5)
    assert (few.evaluations == 5).all()
    assert few.width.min() > 1e-3
    with pytest.raises(ValueError, match="method .*'newton' or 'bisection', got 'secant'"):
        solve_with_certificate(*parameters, method="secant")
    with pytest.raises(ValueError, match="tolerance must be finite and at least 0, got nan"):
        solve_with_certificate(*parameters, method="bisection", tolerance=float("nan"))
    with pytest.raises(ValueError, match=r"max_evaluations must be 1 ... 2\^30, got 0"):
        solve_with_certificate(*parameters, max_evaluations=0)


def test_ordinary_parameters_need_few_evaluations():
    generator = torch.Generator().manual_seed(0)
    logits, means = torch.randn(2, 5000, 32, dtype=torch.float64, generator=generator)
    scales = 0.7 * torch.randn(5000, 32, dtype=torch.float64, generator=generator) - 0.7
    target = 2 * torch.randn(5000, dtype=torch.float64, generator=generator)
    result = solve_with_certificate(target, logits, means, scales)
    assert result.evaluations.double().mean() <= 10


def test_non_finite_targets_of_the_inverse_give_nan():
    _, logits, means, scales = draw(3, 3, torch.float64, seed=0)
    target = torch.tensor([torch.nan, torch.inf, 1.0], dtype=torch.float64)
    x = inverse_logit_cdf(target, logits, means, scales)
    assert torch.isnan(x).tolist() == [True, True, False]


def test_reaching_the_cap_raises():
    _, logits, means, scales = draw(4, 50, torch.float64, seed=1)
    target = torch.linspace(-5, 5, 50, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="needs more than 2 evaluations for"):
        solve_with_certificate(target, logits, means, scales, max_evaluations=2)


@pytest.mark.parametrize("function", [logit_cdf, inverse_logit_cdf, solve_with_certificate])
def test_parameters_on_another_device_raise(function):
    """A kernel would read their addresses on its own device."""
    x, there = torch.zeros(5), torch.zeros(5, 2, device="meta")
    here = torch.zeros(5, 2)
    message = "parameters must be on its input's device cpu, got meta"
    for place in range(3):
        parameters = [here] * place + [there] + [here] * (2 - place)
        with pytest.raises(ValueError, match=message):
            function(x, *parameters)


@pytest.mark.parametrize("function", [packed_logit_cdf, packed_inverse_logit_cdf])
def test_packed_parameters_on_another_device_raise(function):
    with pytest.raises(ValueError, match="must be on its input's device cpu, got meta"):
        function(torch.zeros(5), torch.zeros(5, 8, device="meta"))


def test_parameters_that_do_not_broadcast_raise():
    with pytest.raises(ValueError, match=r"\(2,\) \+ \(K,\), got \(3, 4\)"):
        logit_cdf(torch.zeros(2), *[torch.zeros(3, 4)] * 3)


@pytest.mark.parametrize("passed", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_packed_parameters_equal_separate_ones_to_the_bit(backend, dtype, passed):
    generator = torch.Generator().manual_seed(passed)
    x, weight_y, weight_l = torch.randn(3, 4, 5, generator=generator, dtype=dtype)
    packed = torch.randn(4, 5, passed + 9, generator=generator, dtype=dtype)
    packed[0, 0, -1] = -0.5  # at the floor: the gradient is that of the log-scale
    packed[0, 1, -2] = torch.nan  # torch's clamp gives this one the gradient 0
    leaves = [t.requires_grad_() for t in (x, packed)]

    def results(y, slope, leading):
        total = (weight_y * y + weight_l * slope).sum() + (leading * weight_y).sum()
        return [y, slope, *torch.autograd.grad(total, leaves)]

    leading, logits, means, log_scales = packed.split([passed, 3, 3, 3], -1)
    expected = results(
        *logit_cdf(x, logits, means, log_scales.clamp(min=-0.5)), leading.movedim(-1, 0)
    )
    got = results(*packed_logit_cdf(x, packed, -0.5))
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)
    assert got[3][0, 1, -2] == 0
    with torch.no_grad():
        x[0, 1], packed[0, 1, -2] = 0, 0
        _, logits, means, log_scales = packed.split([passed, 3, 3, 3], -1)
        root = packed_inverse_logit_cdf(x, packed, -0.5)
        assert torch.equal(root, inverse_logit_cdf(x, logits, means, log_scales.clamp(min=-0.5)))


def test_second_derivatives_of_packed_parameters(backend):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    packed = torch.randn(3, 8, generator=generator, dtype=torch.float64).requires_grad_()
    for function in (packed_logit_cdf, packed_inverse_logit_cdf):
        assert torch.autograd.gradcheck(function, (x, packed, -0.5))
        assert torch.autograd.gradgradcheck(function, (x, packed, -0.5))


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (4, 5, 2)])
def test_packed_parameters_of_a_wrong_shape_raise(shape):
    with pytest.raises(ValueError, match=r"packed parameters must have the input's shape .* got"):
        packed_logit_cdf(torch.zeros(4, 5), torch.zeros(shape))
