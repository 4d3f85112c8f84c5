"""The exported encoder: same results, without this library."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.context_spec import ContextSpec
from flowpp.interop.export import Encode, export_encode
from flowpp.interop.released import released_variables
from flowpp.kernels.backend import use_backend

FLOW = FlowConfig(
    layout="checkerboard 1, squeeze, channels 1", filters=4, blocks=1, components=2, heads=2
)
CONFIG = ModelConfig(
    flow=FLOW,
    dequantizer=dataclasses.replace(FLOW, layout="columns 1"),
    context=ContextConfig(filters=4, blocks=1),
)
OTHER = ModelConfig(
    flow=dataclasses.replace(
        FLOW, convolution="lu", attention="none", weight_norm=True, act_norm="channel"
    ),
    dequantization="uniform",
)
SHAPE = (1, 4, 4)

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of torch.export itself


def drawn(model, count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 16, (count, *SHAPE), generator=generator).float()
    return x, model.dequantizer.draw_noise(x.shape, dtype=x.dtype, generator=generator)


def built(config):
    torch.manual_seed(0)
    return build_model(config, SHAPE, 16).eval()


@pytest.mark.parametrize("config", [CONFIG, OTHER], ids=["variational", "uniform"])
def test_the_program_agrees_with_the_model(config):
    model = built(config)
    program = export_encode(model, SHAPE).module()
    for count in (3, 5):
        inputs = drawn(model, count)
        with use_backend("torch"), torch.no_grad():
            expected = Encode(model)(*inputs)
        for got, want in zip(program(*inputs), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        elbo = model.elbo(*inputs)
    torch.testing.assert_close(program(*inputs)[1], elbo.log_det, rtol=1e-4, atol=1e-4)


def test_the_program_runs_without_this_library(tmp_path):
    model = built(CONFIG)
    inputs = drawn(model, 2)
    program = export_encode(model, SHAPE, batch=2)
    torch.export.save(program, tmp_path / "encode.pt2")
    with use_backend("torch"), torch.no_grad():
        torch.save((*inputs, Encode(model)(*inputs)[0]), tmp_path / "numbers.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['flowpp'] = None\n"
        "x, noise, z = torch.load('numbers.pt')\n"
        "got = torch.export.load('encode.pt2').module()(x, noise)[0]\n"
        "torch.testing.assert_close(got, z, rtol=1e-6, atol=1e-6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_a_batch_below_one_is_refused():
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        export_encode(built(CONFIG), SHAPE, batch=0)


@pytest.mark.parametrize("kind", ["labels", "images"])
def test_the_program_of_a_conditional_model_has_its_context_as_third_input(kind):
    shape = (1, 2, 2) if kind == "images" else ()
    spec = ContextSpec(kind, "folder", ("a", "b") if kind == "labels" else (), shape)
    torch.manual_seed(0)
    model = build_model(OTHER, SHAPE, 16, context=spec).eval()
    program = export_encode(model, SHAPE).module()
    x, noise = drawn(model, 3)
    context = torch.randint(0, 3, (3, *shape))
    context = context if kind == "labels" else context.float()
    with use_backend("torch"), torch.no_grad():
        expected = Encode(model)(x, noise, context)
        other = Encode(model)(x, noise, context.flip(0) * 0)
    torch.testing.assert_close(program(x, noise, context), expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(expected[0], other[0])
    model.context_spec = None
    with pytest.raises(ValueError, match="described by model.context_spec"):
        export_encode(model, SHAPE)


def test_a_conditional_model_has_no_released_variables():
    spec = ContextSpec("labels", "folder", ("a", "b"))
    with pytest.raises(ValueError, match="must be unconditional"):
        released_variables(build_model(CONFIG, SHAPE, 16, context=spec))
