"""Double backward in float64 is exact; torch.func's transforms and forward mode are refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import func
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowpp.config import FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.kernels.backend import use_backend

FLOW = FlowConfig(
    layout="squeeze, channels 1", filters=4, blocks=1, components=2, heads=2, attention="none"
)
SHAPE = (1, 2, 4)


def flow_with(attention):
    torch.manual_seed(0)
    config = ModelConfig(
        flow=dataclasses.replace(FLOW, attention=attention), dequantization="uniform"
    )
    return build_model(config, SHAPE, 16).eval().double().flow


@pytest.fixture
def x():
    return (16 * torch.rand(2, *SHAPE, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_second_derivatives(x, backend):
    flow = flow_with("none")
    with use_backend(backend):
        assert torch.autograd.gradgradcheck(flow, x)
        z = flow(x)[0].detach().requires_grad_()
        assert torch.autograd.gradgradcheck(flow.inverse, z)


def test_second_derivatives_through_attention(x):
    """torch's fused attention has none and says so; its plain one has."""
    flow = flow_with("attention")
    (by_x,) = torch.autograd.grad(flow(x)[1].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="attention.*backward is not implemented"):
        by_x.sum().backward()
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(flow, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.func itself
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_transforms_are_refused_not_wrong(x, backend):
    flow, x = flow_with("none"), x.detach()
    with use_backend(backend):
        for transformed in (
            lambda: func.grad(lambda v: flow(v)[1].sum())(x),
            lambda: func.vmap(lambda v: flow(v[None])[0][0])(x),
            lambda: func.jvp(lambda v: flow(v)[0], (x,), (x,)),
            lambda: func.jacrev(lambda v: flow(v)[0])(x),
        ):
            with pytest.raises(RuntimeError, match="setup_context|vmap|jvp|forward"):
                transformed()
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="jvp|forward"):
            flow(forward_ad.make_dual(x, x))
