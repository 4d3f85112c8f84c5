"""The mixture's kernels on other streams, in CUDA graphs, on a second device, above 2^31 numbers.

A CUDA device must show these itself.
"""

from __future__ import annotations

import pytest
import torch

from flowpp.kernels.cuda import launch
from flowpp.kernels.mixture_logistic import inverse_logit_cdf, logit_cdf

pytestmark = [pytest.mark.gpu, pytest.mark.hardware]

SECOND = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def arguments(points=100_000, components=32, *, seed=0, device="cuda"):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(points,), *[(points, components)] * 3]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def everything(inputs):
    """Return y, log dy/dx, all gradients, and the inverse of y."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y, log_derivative = logit_cdf(*leaves)
    gradients = torch.autograd.grad(y.sum() + log_derivative.sum(), leaves)
    root = inverse_logit_cdf(y.detach(), *inputs[1:])
    return [t.detach() for t in (y, log_derivative, *gradients, root)]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.cpu(), b.cpu())


def test_the_current_stream_is_used():
    """Inputs are written on a side stream just before: elsewhere, old numbers would be read."""
    sources = [arguments(seed=s) for s in (1, 2)]
    expected = everything(sources[1])
    stream = torch.cuda.Stream()
    inputs = [t.clone() for t in sources[0]]
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # about 30 ms, in which another stream would be done
        for target, source in zip(inputs, sources[1], strict=True):
            target.copy_(source)
        got = everything(inputs)
    stream.synchronize()
    assert_equal(got, expected)


def test_memory_freed_early_is_not_used_again():
    """Temporaries on a side stream, and allocations beside them."""
    expected = [everything(arguments(seed=s)) for s in range(4)]
    streams = [torch.cuda.Stream() for _ in range(4)]
    torch.cuda.synchronize()
    got = []
    for seed, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            transposed = [t.T.contiguous().T if t.ndim == 2 else t for t in arguments(seed=seed)]
            got.append(everything(transposed))
    torch.cuda.synchronize()
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_graphs_are_captured_and_replayed_with_other_inputs():
    launch.load()
    static = arguments(seed=0)
    leaves = [t.requires_grad_() for t in static]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())

    def step():
        y, log_derivative = logit_cdf(*leaves)
        gradients = torch.autograd.grad(y.sum() + log_derivative.sum(), leaves)
        return [y.detach(), log_derivative.detach(), *gradients]

    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    for seed in (1, 2):
        other = arguments(seed=seed)
        with torch.no_grad():
            for target, source in zip(static, other, strict=True):
                target.copy_(source)
        graph.replay()
        assert_equal(outputs, everything(other)[:-1])


@SECOND
def test_another_device_than_the_current_one():
    expected = everything(arguments())
    with torch.cuda.device(0):
        got = everything(arguments(device="cuda:1"))
    assert all(t.device == torch.device("cuda", 1) for t in got)
    assert_equal(got, expected)


@pytest.mark.slow
def test_more_than_two_to_the_31_numbers():
    """2^31 + 2^20 parameters of each kind: the last scalars equal those computed alone."""
    components = 1024
    points = (2**31 + 2**20) // components
    free, _ = torch.cuda.mem_get_info()
    if free < 40 << 30:
        pytest.skip("needs 40 GB of free memory")
    row = [t.cuda() for t in arguments(1000, components, device="cpu")]
    x = torch.zeros(points, device="cuda")
    parameters = [torch.zeros(points, components, device="cuda") for _ in range(3)]
    x[-1000:] = row[0]
    for big, small in zip(parameters, row[1:], strict=True):
        big[-1000:] = small
    with torch.no_grad():
        got = logit_cdf(x, *parameters)
        expected = logit_cdf(*row)
        for one, other in zip(got, expected, strict=True):
            assert torch.equal(one[-1000:], other)
            assert (one[:-1000] == one[0]).all()  # the same scalar everywhere else
        root = inverse_logit_cdf(got[0], *parameters)
        assert torch.equal(root[-1000:], inverse_logit_cdf(expected[0], *row[1:]))
