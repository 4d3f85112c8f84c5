"""Compiled couplings, blocks and models have the values and gradients of the originals."""

from __future__ import annotations

import dataclasses
from unittest.mock import Mock

import pytest
import torch

from flowpp.conditioner import Conditioner, compiled, conditioner, strip_vectors
from flowpp.config import ContextSpec, FlowConfig, ModelConfig, presets
from flowpp.config.build import build_coupling, build_model, set_compute
from flowpp.context import LabelEncoder
from flowpp.training.initialization import initialize

CONFIG = FlowConfig(filters=8, blocks=1, components=3, heads=2, dropout=0.0)
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


def results(function, coupling, x):
    x = x.clone().requires_grad_()
    y, log_det = function(x)
    loss = y.square().sum() - log_det.sum()
    return [y, log_det, *torch.autograd.grad(loss, [x, *coupling.parameters()])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_coupling_equals_the_original(backend):
    torch.manual_seed(0)
    coupling = build_coupling(CONFIG, (2, 4, 4), None)
    x = torch.randn(2, 4, 4, 4)
    expected = results(coupling, coupling, x)
    got = results(torch.compile(coupling, backend=backend), coupling, x)
    for value, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4)


def small(preset, **changes):
    """An initialized small model of a preset's topology without dropout, images and noise."""
    settings = presets.get(preset).model
    settings = dataclasses.replace(
        settings,
        flow=dataclasses.replace(settings.flow, dropout=0.0, **changes),
        dequantizer=dataclasses.replace(settings.dequantizer, dropout=0.0, **changes),
    )
    shape, levels = ((1, 8, 8), 17) if preset == "digits" else ((3, 8, 8), 256)
    generator = torch.Generator().manual_seed(0)
    model = build_model(settings, shape, levels, generator).train()
    x = torch.randint(levels, (4, *shape), generator=generator).float()
    noise = model.dequantizer.draw_noise(x.shape, generator=generator)
    initialize(model, x, noise)
    return model, x, noise


def loss_and_gradients(function, model, *batch):
    model.zero_grad()
    loss = -function(*batch).total.mean()
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters()]


def assert_close(got, expected, tolerance):
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=0)
    scale = torch.nn.utils.get_total_norm(expected[1])
    differences = [a - b for a, b in zip(got[1], expected[1], strict=True)]
    assert torch.nn.utils.get_total_norm(differences) <= tolerance * scale


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", ["digits", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_a_model_compiles_as_one_graph(preset, backend):
    changes = {"filters": 8, "blocks": 1, "components": 2, "heads": 2}
    model, x, noise = small(preset, **changes)
    expected = loss_and_gradients(model, model, x, noise)
    function = torch.compile(model, backend=backend, fullgraph=True)
    assert_close(loss_and_gradients(function, model, x, noise), expected, 1e-4)
    network = next(m for m in model.modules() if isinstance(m, Conditioner))
    with pytest.raises(ValueError, match="Conv2d needs"):  # shapes are checked in any case
        torch.compile(network.proj_in, backend=backend)(torch.zeros(1, 5, 8, 8))


@pytest.fixture(params=BACKENDS)
def backend_of_blocks(request, monkeypatch):
    def fresh():
        return torch.compile(
            compiled.apply_block, backend=request.param, fullgraph=True, dynamic=False
        )

    compiled._compiled.cache_clear()
    function = fresh()
    monkeypatch.setattr(compiled, "_compiled", lambda: function)


@pytest.mark.parametrize(
    ("precision", "memory", "tolerance"),
    [("float32", "normal", 1e-5), ("float32", "low", 1e-5), ("bfloat16", "normal", 0.05)],
)
@pytest.mark.usefixtures("backend_of_blocks")
def test_compiled_blocks_equal_the_original(precision, memory, tolerance):
    model, x, noise = small("digits", filters=8, blocks=2, heads=2)
    names = list(model.state_dict())
    set_compute(model, precision=precision, memory=memory)
    expected = loss_and_gradients(model, model, x, noise)
    set_compute(model, precision=precision, memory=memory, compiled=True)
    torch._dynamo.utils.counters.clear()
    assert_close(loss_and_gradients(model, model, x, noise), expected, tolerance)
    assert list(model.state_dict()) == names
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    blocks = sum(len(m.blocks) for m in model.modules() if isinstance(m, Conditioner))
    assert 0 < graphs < blocks  # blocks of one kind share a graph


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("positions", [64, 16])
@pytest.mark.usefixtures("backend_of_blocks")
def test_blocks_by_strips_equal_the_original(monkeypatch, precision, tolerance, positions):
    model, x, noise = small("digits", filters=8, blocks=2, heads=2)
    set_compute(model, precision=precision)
    expected = loss_and_gradients(model, model, x, noise)
    set_compute(model, precision=precision, compiled=True)
    monkeypatch.setattr(conditioner, "CHANNELS_LAST", ("cpu",))  # as on CUDA devices
    monkeypatch.setattr(strip_vectors, "POSITIONS", positions)
    torch._dynamo.utils.counters.clear()
    by_strip = Mock(wraps=strip_vectors.vectors_by_strip)
    monkeypatch.setattr(conditioner, "vectors_by_strip", by_strip)
    assert_close(loss_and_gradients(model, model, x, noise), expected, tolerance)
    assert by_strip.called
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 8  # the blocks share graphs


CONDITIONS = {
    "labels": (ContextSpec("labels", "folder", ("a", "b")), torch.tensor([0, 2, 1, 0])),
    "images": (
        ContextSpec("images", "low-resolution", (), (1, 2, 2)),
        torch.arange(16).reshape(4, 1, 2, 2).float(),
    ),
}


def conditional(kind):
    """An initialized small conditional model, and its arguments."""
    network = FlowConfig(
        "columns 1, squeeze, checkerboard 1", filters=8, blocks=1, components=2, heads=2,
        dropout=0.0,
    )  # fmt: skip
    settings = ModelConfig(network, dequantizer=dataclasses.replace(network, layout="columns 1"))
    spec, context = CONDITIONS[kind]
    generator = torch.Generator().manual_seed(0)
    model = build_model(settings, (1, 4, 4), 16, generator, spec).train()
    x = torch.randint(16, (4, 1, 4, 4), generator=generator).float()
    arguments = x, model.draw_noise(x.shape, generator=generator), context
    initialize(model, *arguments)
    return model, arguments


@pytest.mark.parametrize("kind", CONDITIONS)
def test_blocks_by_strips_receive_contexts(monkeypatch, kind):
    model, arguments = conditional(kind)
    expected = loss_and_gradients(model, model, *arguments)
    set_compute(model, compiled=True)
    monkeypatch.setattr(compiled, "_compiled", lambda: compiled.apply_block)  # uncompiled: faster
    monkeypatch.setattr(conditioner, "CHANNELS_LAST", ("cpu",))  # as on CUDA devices
    by_strip = Mock(wraps=strip_vectors.vectors_by_strip)
    monkeypatch.setattr(conditioner, "vectors_by_strip", by_strip)
    assert_close(loss_and_gradients(model, model, *arguments), expected, 1e-5)
    assert by_strip.called


def test_an_encoder_of_labels_compiles_as_one_graph():
    encoder = LabelEncoder.create(3, 4)
    function = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    labels, shape = torch.tensor([2, 0, 1]), (1, 2, 2)
    assert torch.equal(function(labels, shape), encoder(labels, shape))
    assert function(labels + 9, shape).isnan().all()  # values are not read in a graph


@pytest.mark.usefixtures("backend_of_blocks")
def test_blocks_are_compiled_in_training_alone(monkeypatch):
    model, x, noise = small("digits", filters=8, blocks=1, heads=2)
    set_compute(model, compiled=True)
    monkeypatch.setattr(compiled, "_compiled", lambda: pytest.fail("compiled in evaluation"))
    with torch.no_grad():
        model.elbo(x, noise)
    model.eval()
    model.elbo(x, noise)
