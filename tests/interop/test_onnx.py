"""ONNX programs of the encoder and the bound agree with the model, run by onnxruntime."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from flowpp.bijectors import InvertibleConv
from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.context_spec import ContextSpec
from flowpp.interop import onnx
from flowpp.runtime.hashing import weights_hash

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install flowpp[onnx]")

FLOW = FlowConfig(layout="squeeze, channels 1", filters=4, blocks=1, components=2, heads=2)
VARIATIONAL = ModelConfig(
    flow=FLOW,
    dequantizer=dataclasses.replace(FLOW, layout="columns 1"),
    context=ContextConfig(filters=4, blocks=1),
)
UNIFORM = ModelConfig(
    flow=dataclasses.replace(
        FLOW, convolution="lu", attention="none", weight_norm=True, act_norm="channel"
    ),
    dequantization="uniform",
)
SHAPE = (1, 4, 4)

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the exporter itself


def run(program, path, *inputs):
    import onnxruntime

    program.save(path)
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    assert len(names) == len(inputs)
    return session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))


@pytest.mark.parametrize("config", [VARIATIONAL, UNIFORM], ids=["variational", "uniform"])
def test_programs_agree_with_the_model(config, tmp_path):
    torch.manual_seed(0)
    model = build_model(config, SHAPE, 16).eval()
    before = weights_hash(model.state_dict())
    x = torch.randint(0, 16, (5, *SHAPE)).float()
    noise = model.dequantizer.draw_noise(x.shape)
    with torch.no_grad():
        elbo, z = model.elbo(x, noise), model.encode(x, noise)
    got = run(onnx.encode(model, SHAPE), tmp_path / "encode.onnx", x, noise)
    for value, want in zip(got, (z, elbo.log_det, elbo.log_q), strict=True):
        np.testing.assert_allclose(value, want.numpy(), rtol=1e-5, atol=1e-5)
    (bound,) = run(onnx.log_prob(model, SHAPE), tmp_path / "bound.onnx", x, noise)
    np.testing.assert_allclose(bound, elbo.total.numpy(), rtol=1e-5, atol=1e-5)
    assert weights_hash(model.state_dict()) == before


def test_the_copied_convolutions_are_those_of_the_model():
    torch.manual_seed(0)
    model = build_model(UNIFORM, SHAPE, 16).eval()
    copied = onnx._simplified(model)
    assert not any(isinstance(layer, InvertibleConv) for layer in copied.modules())
    x = 16 * torch.rand(3, *SHAPE)
    with torch.no_grad():
        for got, want in zip(copied.flow(x), model.flow(x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        z, _ = model.flow(x)
        for got, want in zip(copied.flow.inverse(z), model.flow.inverse(z), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_the_bound_of_a_conditional_model(tmp_path):
    torch.manual_seed(0)
    spec = ContextSpec("labels", "folder", ("a", "b", "c"))
    model = build_model(VARIATIONAL, SHAPE, 16, context=spec).eval()
    x, labels = torch.randint(0, 16, (5, *SHAPE)).float(), torch.tensor([0, 3, 1, 2, 0])
    noise = model.draw_noise(x.shape)
    program = onnx.log_prob(model, SHAPE)
    (bound,) = run(program, tmp_path / "bound.onnx", x, noise, labels)
    with torch.no_grad():
        expected = model.elbo(x, noise, labels).total
        assert not torch.allclose(expected, model.elbo(x, noise, labels * 0).total)
    np.testing.assert_allclose(bound, expected.numpy(), rtol=1e-5, atol=1e-5)
