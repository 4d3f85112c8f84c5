"""The mixture on each device against float64 formulas and hundred-digit arithmetic on the CPU.

Unit of error, u: eps max(1, |truth|). On the CPU y is accurate to 3 u, and its log-derivative to
16 u, by tests/kernels/test_mixture_logistic.py. Twice that is allowed here: a device has its own
logarithms and divisions, accurate to 1 or 2 ulps, and another order of operations.
"""

from __future__ import annotations

import pytest
import torch
from mpmath import mp

from flowpp.elementwise import MixtureLogisticFamily
from flowpp.kernels.backend import backend_for, use_backend
from flowpp.kernels.mixture_formulas import evaluate
from flowpp.kernels.mixture_logistic import inverse_logit_cdf, logit_cdf, solve_with_certificate
from mpmath_truth import DIGITS, exact, mixture_logistic

DTYPES = [torch.float32, torch.float64]
Y_ULPS, LOG_DERIVATIVE_ULPS = 6, 32
GRADIENT_ULPS = 400
"""As the law of gradients in float32, in units of the largest gradient of the same scalar."""
EVALUATIONS = {torch.float32: 40, torch.float64: 65}
COMPONENTS = [1, 2, 3, 7, 8, 31, 32, 33, 64, 127, 128]
LARGE, TOO_MANY = 1000, 5000
"""The parameters of one scalar fill, and exceed, the 48 KB of a block's shared memory."""


def draw(components, points, dtype, *, log_scales=(-7.0, 3.0)):
    """Draw points in the body and up to 1e4 away, and `(points, components)`, on the CPU."""
    generator = torch.Generator().manual_seed(components)
    normal = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    uniform = torch.rand(points, components, generator=generator, dtype=torch.float64)
    x = 2 * normal(points)
    x[::3] = 1e4 * torch.sign(x[::3])
    low, high = log_scales
    size = (points, components)
    arguments = x, normal(*size), 2 * normal(*size), low + (high - low) * uniform
    return [a.to(dtype) for a in arguments]


def in_float64(function, *arguments):
    """Compute in float64 on the CPU, by torch's own operations."""
    with use_backend("torch"):
        return function(*(a.detach().cpu().double() for a in arguments))


def assert_within(got, expected, ulps, dtype):
    unit = torch.finfo(dtype).eps * expected.abs().clamp(min=1)
    error = ((got.detach().cpu().double() - expected).abs() / unit).nan_to_num(torch.inf)
    assert error.numel() == 0 or error.max() <= ulps, error.max()


def assert_accurate(arguments, dtype):
    """Compare y and log dy/dx with the truth."""
    got = logit_cdf(*arguments)
    expected = in_float64(evaluate, *arguments)
    assert got[0].device == arguments[0].device
    assert_within(got[0], expected[0], Y_ULPS, dtype)
    assert_within(got[1], expected[1], LOG_DERIVATIVE_ULPS, dtype)


@pytest.mark.parametrize("components", [*COMPONENTS, LARGE])
def test_value_and_log_derivative_in_float32(components, device):
    arguments = draw(components, 777 if components < 1000 else 33, torch.float32)
    assert_accurate([a.to(device) for a in arguments], torch.float32)


def test_more_components_than_a_block_holds_are_torchs(device):
    arguments = [a.to(device) for a in draw(TOO_MANY, 33, torch.float32)]
    if backend_for(arguments[0]) == "cuda":
        with pytest.raises(ValueError, match=r"use_backend\('torch'\)"):
            logit_cdf(*arguments)
    with use_backend("torch"):
        assert_accurate(arguments, torch.float32)


@pytest.mark.parametrize("components", [1, 4, 33])
def test_value_and_log_derivative_in_float64(components, device):
    arguments = draw(components, 40, torch.float64)
    got = logit_cdf(*(a.to(device) for a in arguments))
    with mp.workdps(DIGITS):
        for values, part, ulps in zip(got, (0, 1), (Y_ULPS, LOG_DERIVATIVE_ULPS), strict=True):
            for row, value in enumerate(values.tolist()):
                x, *parameters = (a[row].numpy() for a in arguments)
                truth = mixture_logistic(x, *parameters)[part]
                unit = torch.finfo(torch.float64).eps * max(1, abs(truth))
                assert abs(exact(value) - truth) <= ulps * unit


@pytest.mark.parametrize("components", COMPONENTS)
def test_gradients_in_float32(components, device):
    arguments = draw(components, 301, torch.float32, log_scales=(-2.0, 2.0))
    arguments[0].clamp_(-30, 30)
    compare_gradients(arguments, device, logit_cdf)


@pytest.mark.parametrize("components", [1, 3, 32, 128])
def test_gradients_of_the_inverse_in_float32(components, device):
    y, *parameters = draw(components, 200, torch.float32, log_scales=(-2.0, 1.0))
    compare_gradients([y.clamp(-10, 10), *parameters], device, inverse_logit_cdf)


def compare_gradients(arguments, device, function):
    """Compare the gradients of a weighted sum of the outputs, for each scalar."""
    weights = torch.randn(2, len(arguments[0]), generator=torch.Generator().manual_seed(1))

    def gradients(function, *inputs):
        leaves = [t.detach().requires_grad_() for t in inputs]
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        # A gradient that is not contiguous, and one that is expanded from a single number.
        strided = torch.stack([weights[0], weights[1]], 1).to(outputs[0])[:, 0]
        expanded = torch.ones((), device=strided.device, dtype=strided.dtype).expand_as(strided)
        return torch.autograd.grad(outputs, leaves, (strided, expanded)[: len(outputs)])

    got = gradients(function, *(a.to(device) for a in arguments))
    plain = evaluate if function is logit_cdf else function
    expected = in_float64(lambda *inputs: gradients(plain, *inputs), *arguments)
    scale = torch.cat([e.reshape(len(weights[0]), -1) for e in expected], 1).abs().amax(1)
    for one, other in zip(got, expected, strict=True):
        assert one.device.type == device
        rows = scale.reshape(-1, *[1] * (other.ndim - 1)).clamp(min=1)
        unit = torch.finfo(torch.float32).eps * rows
        assert ((one.cpu().double() - other).abs() <= GRADIENT_ULPS * unit).all()


def test_second_derivatives(device):
    arguments = draw(3, 5, torch.float64, log_scales=(-1.0, 1.0))
    arguments[0].clamp_(-3, 3)
    leaves = [a.to(device).requires_grad_() for a in arguments]
    for function in (logit_cdf, inverse_logit_cdf):
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("components", [1, 4, 32, 128])
def test_certificate_of_the_inverse(components, dtype, device):
    """The residual is what the forward kernel says, and the root at most neighbours off."""
    target, *parameters = draw(components, 999, dtype, log_scales=(-12.0, 6.0))
    found = solve_with_certificate(*(a.to(device) for a in (target, *parameters)))
    root, residual, width = (t.cpu() for t in (found.root, found.residual, found.width))
    assert found.evaluations.max() <= EVALUATIONS[dtype]
    assert (width >= 0).all()
    unit = torch.finfo(dtype).eps * target.abs().clamp(min=1).double()
    value = in_float64(evaluate, root, *parameters)[0]
    error = (value - target.double() - residual.double()).abs()
    assert (error <= (Y_ULPS + 1) * unit).all()
    # Within 2 u and the error of y, or its neighbours lie on both sides of the target.
    far = residual.double().abs() > 2 * unit
    infinity = torch.full_like(root, torch.inf)
    below, above = (
        in_float64(evaluate, torch.nextafter(root, end), *parameters)[0]
        for end in (-infinity, infinity)
    )
    slack = Y_ULPS * unit
    straddled = (below <= target.double() + slack) & (target.double() - slack <= above)
    assert (straddled | ~far).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", range(4))
def test_non_finite_arguments_give_nan_in_their_places(which, value, device):
    arguments = draw(33, 70, torch.float32)
    arguments[which].view(70, -1)[13, -1] = value
    expected = torch.zeros(70, dtype=torch.bool)
    expected[13] = True
    moved = [a.to(device) for a in arguments]
    for output in logit_cdf(*moved):
        assert torch.equal(output.isnan().cpu(), expected)
    assert torch.equal(inverse_logit_cdf(*moved).isnan().cpu(), expected)
    leaves = [a.requires_grad_() for a in moved]
    for gradient in torch.autograd.grad(sum(t.sum() for t in logit_cdf(*leaves)), leaves):
        assert gradient.view(70, -1)[~expected.to(device)].isfinite().all()


SHAPE = (3, 2, 6, 5)


def contiguous(device):
    return [a.to(device).reshape(*SHAPE, *a.shape[1:]) for a in draw(7, 180, torch.float32)]


def by_layout(name, device):
    """Return x of shape SHAPE and three parameters of shape SHAPE + (7,) in a layout."""
    x, *parameters = contiguous(device)
    if name == "contiguous":
        pass
    elif name in ("network's output", "network's output, channels last"):
        output = torch.cat(parameters, -1).movedim(-1, 2).flatten(1, 2)  # (B, C * 21, H, W)
        if name.endswith("last"):
            output = output.to(memory_format=torch.channels_last)
            x = x.to(memory_format=torch.channels_last)
        else:
            output = output.contiguous()
        parameters = list(output.unflatten(1, (2, 21)).movedim(2, -1).split(7, -1))
    elif name == "strided":
        x, *parameters = (
            torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0] for t in (x, *parameters)
        )
    elif name == "transposed":
        x = x.transpose(0, 3).contiguous().transpose(0, 3)
        parameters = [p.transpose(1, 4).contiguous().transpose(1, 4) for p in parameters]
    elif name == "broadcast":
        parameters = [p[:1, :, :1, :1].expand(*SHAPE, 7) for p in parameters]
        x = x[:, :, :, :1].expand(SHAPE)
    elif name == "negative bit":
        x, *parameters = (torch.complex(-t, -t).conj().imag for t in (x, *parameters))
        assert x.is_neg()
    elif name == "unaligned":
        x, *parameters = (
            torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape) for t in (x, *parameters)
        )
    return x, *parameters


LAYOUTS = [
    "contiguous",
    "network's output",
    "network's output, channels last",
    "strided",
    "transposed",
    "broadcast",
    "unaligned",
    pytest.param("negative bit", marks=pytest.mark.hardware),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, device):
    """Values and gradients are those of the same numbers in a contiguous copy."""
    if layout == "negative bit":
        arguments = [t for t in by_layout(layout, device)]
        plain = [t.resolve_neg().clone() for t in arguments]
    else:
        arguments = by_layout(layout, device)
        plain = [t.clone(memory_format=torch.contiguous_format) for t in arguments]
    assert_accurate(arguments, torch.float32)

    def gradients(inputs):
        leaves = [t.detach().requires_grad_() for t in inputs]
        y, log_derivative = logit_cdf(*leaves)
        weights = torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape)
        return torch.autograd.grad((y * weights + log_derivative).sum(), leaves)

    for one, other in zip(gradients(arguments), gradients(plain), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())
    root = inverse_logit_cdf(*arguments)
    torch.testing.assert_close(root, inverse_logit_cdf(*plain), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (0, 3, 4, 4), (2, 0, 4, 4)])
def test_empty_inputs(shape, device):
    leaves = [torch.zeros(shape, device=device, requires_grad=True)]
    leaves += [torch.zeros(*shape, 5, device=device, requires_grad=True) for _ in range(3)]
    for outputs in (logit_cdf(*leaves), (inverse_logit_cdf(*leaves),)):
        assert all(t.shape == shape and t.device.type == device for t in outputs)
        gradients = torch.autograd.grad(sum(t.sum() for t in outputs), leaves)
        assert [g.shape for g in gradients] == [t.shape for t in leaves]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("components", [4, 32])
@pytest.mark.parametrize("floor", [None, -1.0])
def test_family_of_a_coupling(floor, components, channels_last, device):
    """The map of a coupling, its inverse and its gradients, from a network's output."""
    family = MixtureLogisticFamily(components, floor)
    size = family.parameters_per_scalar
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 4, generator=generator)
    raw = 0.5 * torch.randn(2, 3 * size, 4, 4, generator=generator)

    def results(device, dtype):
        leaves = [t.to(device, dtype).requires_grad_() for t in (x, raw)]
        inputs = leaves
        if channels_last:
            inputs = [t.contiguous(memory_format=torch.channels_last) for t in leaves]
        parameters = inputs[1].unflatten(1, (3, size)).movedim(2, -1)
        y, log_det = family.transform(inputs[0], parameters)
        gradients = torch.autograd.grad((y.sin().sum() + log_det.sum()), leaves)
        with torch.no_grad():
            back, inverse_log_det = family.inverse_transform(y, parameters)
        return y, log_det, back, inverse_log_det, *gradients

    with use_backend("torch"):
        expected = results("cpu", torch.float64)
    eps = torch.finfo(torch.float32).eps
    for got, truth in zip(results(device, torch.float32), expected, strict=True):
        assert got.device.type == device
        # Sums of 48 log-derivatives, and gradients.
        allowed = GRADIENT_ULPS * eps * truth.abs().amax().clamp(min=1)
        assert ((got.detach().cpu().double() - truth).abs() <= allowed).all()
