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
from flowpp.kernels.layers import concat_elu

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
            with pytest.raises(RuntimeError, match="Flow.. must .* use torch.autograd.grad"):
                transformed()
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="jvp|forward"):
            flow(forward_ad.make_dual(x, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.func itself
def test_a_model_under_a_transform_says_what_to_use():
    model = build_model(ModelConfig(flow=FLOW, dequantization="uniform"), SHAPE, 16).eval()
    images, noise = torch.zeros(2, *SHAPE), torch.full((2, *SHAPE), 0.25)
    weights = dict(model.named_parameters())

    def of_one(weights, image, noise):
        return func.functional_call(model, weights, (image[None], noise[None])).total[0]

    for transformed in (
        lambda: func.vmap(func.grad(of_one), (None, 0, 0))(weights, images, noise),
        lambda: func.vmap(model.decode_images)(torch.zeros(1, 2, 4, 1, 2)),
        lambda: func.jvp(lambda u: model.encode(images, u), (noise,), (noise,)),
    ):
        with pytest.raises(RuntimeError, match=r"transforms \(vmap, grad, jvp, ...\), got one"):
            transformed()
    assert func.functional_call(model, weights, (images, noise)).total.shape == (2,)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_several_gradients_at_once(backend):
    flow = flow_with("none").float()
    x = (16 * torch.rand(2, *SHAPE)).requires_grad_()
    several = torch.randn(3, 2, 4, 1, 2)
    with use_backend(backend):
        z, _ = flow(x)
        (together,) = torch.autograd.grad(z, x, several, is_grads_batched=True, retain_graph=True)
        one_by_one = [torch.autograd.grad(z, x, grad, retain_graph=True)[0] for grad in several]
        torch.testing.assert_close(together, torch.stack(one_by_one))


@pytest.mark.filterwarnings("ignore")  # of torch.jit itself
def test_torch_jit_traces_the_forward_direction_only():
    torch.manual_seed(0)
    model = build_model(ModelConfig(flow=FLOW, dequantization="uniform"), SHAPE, 16).eval()
    model.requires_grad_(requires_grad=False)
    images, noise = torch.randint(16, (4, *SHAPE)).float(), torch.rand(4, *SHAPE)
    traced = torch.jit.trace(lambda x, u: model.elbo(x, u).total, (images[:2], noise[:2]))
    torch.testing.assert_close(traced(images, noise), model.elbo(images, noise).total)
    features = torch.randn(2, 8, 4, 4)
    traced = torch.jit.trace(concat_elu, features)
    torch.testing.assert_close(traced(features + 1), concat_elu(features + 1))
    with pytest.raises(RuntimeError, match="without torch.jit.trace, .* its number of steps"):
        torch.jit.trace(lambda z: model.decode_images(z), torch.randn(2, 4, 1, 2))
