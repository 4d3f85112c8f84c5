"""The mixture's kernels equal torch's formulas in every layout and are valid torch operators."""

from __future__ import annotations

import pytest
import torch

from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reports.result import FAILING
from flowpp.kernels.backend import backend_for, use_backend
from flowpp.kernels.cpu import build
from flowpp.kernels.cpu import mixture_logistic as cpu
from flowpp.kernels.cpu.compilation import included_files
from flowpp.kernels.cuda import launch as cuda
from flowpp.kernels.mixture_logistic import (
    inverse_logit_cdf,
    logit_cdf,
    mixture_backward,
    mixture_forward,
    mixture_inverse,
)

needs_compiler = pytest.mark.skipif(
    not build.is_available("mixture_logistic.cpp"), reason="no C++ compiler here"
)
DTYPES = [torch.float32, torch.float64]


def arguments(shape, components, dtype, *, layout="components last", far=False):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    x = draw(*shape) * (1e4 if far else 1)
    if layout == "components last":
        parameters = [draw(*shape, components) for _ in range(3)]
    elif layout == "output of a network":
        batch, channels, height, width = shape
        raw = draw(batch, channels * 3 * components, height, width)
        split = raw.reshape(batch, channels, 3 * components, height, width)
        parameters = list(split.permute(0, 1, 3, 4, 2).split(components, -1))
    elif layout == "expanded":
        parameters = [draw(*shape[1:], components).expand(*shape, components) for _ in range(3)]
    else:
        parameters = [draw(*reversed(shape), components).permute(3, 2, 1, 0, 4) for _ in range(3)]
    return x, *parameters


LAYOUTS = ["components last", "output of a network", "expanded", "axes reversed"]


@needs_compiler
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 8, 16), (0, 2, 4, 4)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_equal_torchs(dtype, shape, layout, far):
    given = arguments(shape, 5, dtype, layout=layout, far=far)
    weights = [torch.randn(shape, dtype=dtype) for _ in range(2)]
    results = {}
    for backend in ("torch", "cpu"):
        inputs = [t.detach().requires_grad_() for t in given]
        with use_backend(backend):
            y, slope = logit_cdf(*inputs)
            gradients = torch.autograd.grad((weights[0] * y + weights[1] * slope).sum(), inputs)
        results[backend] = [y, slope, *gradients]
    eps = torch.finfo(dtype).eps
    for expected, got in zip(results["torch"], results["cpu"], strict=True):
        assert got.shape == expected.shape
        # Where components compete in a tail, |z| is rounded by eps |z|, which is about |y| u.
        unit = eps * (1 + expected.abs()) * (1 + (given[0].abs().max() if len(given[0]) else 0))
        assert ((got - expected).abs() <= 500 * unit).all()


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_the_number_of_threads(threads):
    x, *parameters = arguments((4, 6, 32, 16), 8, torch.float32)
    before = torch.get_num_threads()
    one = cpu.forward(x, parameters, -1.0)
    torch.set_num_threads(threads)
    try:
        several = cpu.forward(x, parameters, -1.0)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


@needs_compiler
@pytest.mark.parametrize("threads", [2, 3, 5, 7])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_nothing_is_lost_where_threads_do_not_divide_the_work(threads, backward):
    x, *parameters = arguments((1, 1, 37, 211), 8, torch.float64)  # 7807 = 37 * 211
    before = torch.get_num_threads()
    results = {}
    for backend, count in (("torch", 1), ("cpu", threads)):
        inputs = [t.detach().requires_grad_() for t in (x, *parameters)]
        torch.set_num_threads(count)
        try:
            with use_backend(backend):
                found = logit_cdf(*inputs)
                if backward:
                    found = torch.autograd.grad(found[0].sum() + found[1].sum(), inputs)
        finally:
            torch.set_num_threads(before)
        results[backend] = found
    for expected, got in zip(results["torch"], results["cpu"], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@needs_compiler
def test_kernels_are_valid_torch_operators():
    x, *separate = arguments((2, 3, 4, 4), 5, torch.float64)
    raw = torch.randn(2, 3 * 17, 4, 4, dtype=torch.float64)
    packed = raw.reshape(2, 3, 17, 4, 4).permute(0, 1, 3, 4, 2)
    by_y, by_l = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    for parameters, passed in ((separate, 0), ([packed], 2), ([packed.contiguous()], 2)):
        given = (x, parameters, -0.5)
        torch.library.opcheck(mixture_forward, given)
        leading = torch.randn(passed, *x.shape, dtype=torch.float64)
        torch.library.opcheck(mixture_backward, (*given, by_y, by_l, leading))
        torch.library.opcheck(mixture_inverse, (*given, 1.0, 100))


@needs_compiler
def test_second_derivatives():
    given = [t.requires_grad_() for t in arguments((1, 1, 2, 2), 3, torch.float64)]
    with use_backend("cpu"):
        for function in (logit_cdf, inverse_logit_cdf):
            assert torch.autograd.gradcheck(function, given)
            assert torch.autograd.gradgradcheck(function, given)


@needs_compiler
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_every_backend_satisfies_the_laws(backend):
    judge = Judge(FlowppAdapter)
    with use_backend(backend):
        cells = [
            judge.judge(*one)
            for one in plan(["mixture_logistic/*", "coupling/mixture*"], ["*"], ["float32"])
        ]
    assert [cell for cell in cells if cell.status in FAILING] == []
    assert any(cell.status == "holds" for cell in cells)


@needs_compiler
def test_bits_per_dim_are_the_same_on_every_backend():
    from flowpp.config.build import build_model
    from flowpp.config.presets.cpu import DIGITS
    from flowpp.objective import bits_per_dim

    torch.manual_seed(0)
    model = build_model(DIGITS.model, (1, 8, 8), 17).eval()
    x = torch.randint(17, (16, 1, 8, 8))
    noise = model.dequantizer.draw_noise(x.shape)
    results = []
    for backend in ("torch", "cpu"):
        with use_backend(backend), torch.no_grad():
            results.append(bits_per_dim(model.elbo(x, noise).total, 64).mean().item())
    assert abs(results[0] - results[1]) < 1e-6


def test_an_unknown_backend_is_refused_with_the_list(monkeypatch):
    for unknown in ("tpu", "cpp"):
        with pytest.raises(ValueError, match=f"auto, torch, cpu, cuda, got '{unknown}'"):
            with use_backend(unknown):
                pass
    monkeypatch.setenv("FLOWPP_BACKEND", "fast")
    with pytest.raises(ValueError, match="FLOWPP_BACKEND must .* cuda, got 'fast'"):
        backend_for(torch.zeros(1))


def test_a_backend_that_is_not_available_says_what_it_needs():
    x, *parameters = arguments((1, 1, 1, 1), 2, torch.float32)
    if not torch.cuda.is_available():
        with use_backend("cuda"), pytest.raises(RuntimeError, match="'cuda' needs a CUDA device"):
            logit_cdf(x, *parameters)
    with use_backend("cpu"), pytest.raises(RuntimeError, match="'cpu' needs .* CPU, got meta"):
        backend_for(x.to("meta"))


def test_without_a_compiler_torch_computes(build_again, monkeypatch):
    build_again()
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("FLOWPP_CACHE", "/proc/nowhere")  # no folder can be created there
    for kernel in ("mixture_logistic", "layers", "attention", "convolution"):
        with use_backend("auto"):
            assert backend_for(torch.zeros(1), kernel=kernel) == "torch"
        with use_backend("cpu"), pytest.raises(build.BuildError, match="CXX must name"):
            backend_for(torch.zeros(1), kernel=kernel)


@needs_compiler
def test_a_failed_build_says_what_the_compiler_printed(build_again, tmp_path):
    build_again("-Dtemplate=oops")
    with pytest.raises(build.BuildError, match=r"(?s)failed on mixture_logistic.cpp: .*error: "):
        build.library("mixture_logistic.cpp")
    left = [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert len(left) == 1 and left[0].endswith(".failed.json")


def test_a_build_depends_on_all_files_that_are_included():
    names = {file.name for file in included_files(build.FOLDER / "mixture_logistic.cpp")}
    headers = {"parallel.h", "status.h", "transpose.h", "workspace.h"}
    assert names == {"mixture_logistic.cpp", "mixture_logistic.cu"} | headers
    names = {file.name for file in included_files(build.FOLDER / "convolution.cpp")}
    headers = {"winograd.h", "windows.h", "lanes.h", "parallel.h", "transpose.h"}
    headers |= {"status.h", "workspace.h"}
    assert names == {"convolution.cpp"} | headers


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda_kernels_equal_the_cpus(dtype):
    x, *parameters = arguments((2, 3, 4, 5), 5, dtype)
    on_device = [p.cuda() for p in parameters]
    for name in ("forward", "inverse"):
        extra = (-0.5, 1.0, 100) if name == "inverse" else (-0.5,)
        expected = getattr(cpu, name)(x, parameters, *extra)[0]
        got = getattr(cuda, name)(x.cuda(), on_device, *extra)[0].cpu()
        assert (
            (got - expected).abs() <= 100 * torch.finfo(dtype).eps * (1 + expected.abs())
        ).all()


@needs_compiler
@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precisions_are_computed_in_float32(half, backend):
    x, *parameters = arguments((2, 3, 4, 4), 5, torch.float32)
    rounded = [p.to(half) for p in parameters]
    with use_backend(backend):
        y, slope = logit_cdf(x, *rounded)
        expected = logit_cdf(x, *(p.float() for p in rounded))
        assert inverse_logit_cdf(y, *rounded).dtype == torch.float32
    assert y.dtype == slope.dtype == torch.float32
    assert torch.equal(y, expected[0])
    assert torch.equal(slope, expected[1])


@needs_compiler
def test_torch_compile_keeps_the_operator():
    x, *parameters = arguments((2, 3, 4, 4), 5, torch.float32)
    given = (x, parameters, -0.5)
    compiled = torch.compile(mixture_forward, fullgraph=True, backend="eager")
    for expected, got in zip(mixture_forward(*given), compiled(*given), strict=True):
        assert torch.equal(expected, got)
