"""A training step on each device against float64 on the CPU: same weights, batch and noise.

Bounds: loss in bits per dimension; gradient as a whole, ||g - g'|| / ||g'||; weights after the
step against Adam in float64 on the device's own gradient. float32 rounds by 6e-8, TF32 by 5e-4 and
bfloat16 by 4e-3. The CPU's errors are 3e-7 and 6e-7 in float32, 3e-4 and 2e-3 in TF32 (by rounding
the factors of products), 8e-5 and 6e-3 in bfloat16; the bounds are about ten to twenty times that.
"""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from flowpp.bijectors import ActNorm
from flowpp.conditioner import Conv2d
from flowpp.config import ContextConfig, presets
from flowpp.config.build import build_model, float32_meaning, set_compute
from flowpp.evaluation.sampling import sample
from flowpp.kernels.backend import use_backend
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.runtime.precision import float32_precision
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.initialization import initialize
from flowpp.training.muon import Muon, block_kernels
from flowpp.training.optimizer import make_optimizer
from flowpp.training.state import TrainingState
from flowpp.training.step import TrainingStep
from tf32_rounding import TF32Rounding

BOUNDS = {"float32": (5e-6, 1e-5), "tf32": (5e-3, 0.03), "bfloat16": (5e-3, 0.1)}
"""Largest error of the loss in bits per dimension, and of the gradient."""
PRECISIONS = list(BOUNDS)
DIGITS = presets.get("digits"), (1, 8, 8), 17
CIFAR10 = presets.get("cifar10"), (3, 16, 16), 256
MODELS = {"digits": DIGITS, "small cifar10": CIFAR10}


def settings(name):
    """Return a preset's model with few filters and without dropout, image shape and levels."""
    preset, shape, levels = MODELS[name]
    model = preset.model
    small = {"filters": 16, "blocks": 1, "components": 8, "dropout": 0.0}
    if name == "digits":
        small = {"dropout": 0.0}
    model = dataclasses.replace(
        model,
        flow=dataclasses.replace(model.flow, **small),
        dequantizer=dataclasses.replace(model.dequantizer, **small),
        context=ContextConfig(filters=16, blocks=1),
    )
    return model, shape, levels


def batch(name, size):
    _, shape, levels = MODELS[name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(levels, (size, *shape), generator=generator).float()
    return x, torch.randn(x.shape, generator=generator)


@pytest.fixture(scope="module", params=MODELS)
def initialized(request):
    """A model's name, and its weights after initialization in float32 on the CPU."""
    model, shape, levels = settings(request.param)
    built = build_model(model, shape, levels, torch.Generator().manual_seed(0))
    initialize(built.train(), *batch(request.param, 64))
    return request.param, built.state_dict()


def trained(initialized, precision, device, dtype=torch.float32, optimizer="adam"):
    """Do a step; return loss in bits per dimension, gradients, and weights before and after."""
    name, weights = initialized
    config, shape, levels = settings(name)
    model = build_model(config, shape, levels)
    model.load_state_dict(weights)
    model = model.to(device, dtype).train()
    set_compute(model, precision=precision)
    training = dataclasses.replace(
        MODELS[name][0].training, accumulate=2, max_grad_norm=1.0, optimizer=optimizer
    )
    state = TrainingState(
        model,
        EMA(model, 0.5),
        make_optimizer(model, training),
        ShuffledBatches(100, 8, torch.Generator()),
        torch.Generator(),
        next(model.parameters()).device,
    )
    before = {n: p.detach().cpu().clone() for n, p in model.named_parameters()}
    step = TrainingStep(model, state, training, SINGLE_PROCESS)
    x, noise = (t.to(device, dtype) for t in batch(name, 8))
    with float32_precision(float32_meaning(precision)):
        loss, norm = step(x, noise).tolist()
    gradients = {n: p.grad.cpu().double() for n, p in model.named_parameters()}
    after = {n: p.detach().cpu() for n, p in model.named_parameters()}
    average = {n: a.cpu() for n, a in state.ema.average.items()}
    return loss / (math.prod(shape) * math.log(2)), norm, gradients, before, after, average


@pytest.fixture(scope="module")
def truth(initialized):
    with use_backend("torch"):
        return trained(initialized, "float32", "cpu", torch.float64)


def relative(one, other):
    difference = math.sqrt(sum((one[n] - other[n]).square().sum().item() for n in other))
    return difference / math.sqrt(sum(g.square().sum().item() for g in other.values()))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_step(initialized, truth, precision, device):
    rounded = precision == "tf32" and device == "cpu"
    with use_backend("torch") if rounded else use_backend("auto"):
        if rounded:  # as a GPU rounds
            with TF32Rounding():
                got = trained(initialized, precision, device)
        else:
            got = trained(initialized, precision, device)
    loss, norm, gradients, before, after, average = got
    loss_bound, gradient_bound = BOUNDS[precision]
    print(f"loss {abs(loss - truth[0]):.1e}, gradient {relative(gradients, truth[2]):.1e}")
    assert abs(loss - truth[0]) <= loss_bound
    assert abs(norm / truth[1] - 1) <= gradient_bound
    assert relative(gradients, truth[2]) <= gradient_bound
    rate = MODELS[initialized[0]][0].training.learning_rate
    for name, gradient in gradients.items():
        # Adam's first step, as TensorFlow 1 computes it; the gradient has been clipped.
        update = rate * gradient / (gradient.abs() + 1e-8 / math.sqrt(1 - 0.999))
        allowed = 4 * torch.finfo(torch.float32).eps * (before[name].abs() + 16 * rate)
        assert ((after[name].double() - (before[name].double() - update)).abs() <= allowed).all()
        mean = (before[name].double() + after[name].double()) / 2
        assert ((average[name].double() - mean).abs() <= allowed).all()


def test_a_step_of_muon(initialized, device):
    """The device's own gradient leads to the weights of a step in float64 on the CPU.

    Singular values near zero magnify a gradient's rounding by 3.4^5 = 490.
    """
    name = initialized[0]
    _, _, gradients, before, after, _ = trained(initialized, "tf32", device, optimizer="muon")
    model = build_model(settings(name)[0], *MODELS[name][1:])
    expected = {n: p.double() for n, p in before.items()}
    muon = Muon(expected.items(), MODELS[name][0].training.learning_rate, block_kernels(model))
    for parameter, gradient in zip(expected.values(), gradients.values(), strict=True):
        parameter.grad = gradient
    muon.step()
    for n in block_kernels(model):
        update = expected[n] - before[n]
        assert (after[n] - expected[n]).norm() <= 1e-3 * update.norm(), n


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_initialization_normalizes_each_layer(name, precision, device):
    """The deviations of all initialized layers' outputs are those intended within 1 %."""
    config, shape, levels = settings(name)
    model = build_model(config, shape, levels, torch.Generator().manual_seed(0)).to(device)
    set_compute(model, precision=precision)
    inputs = [t.to(device) for t in batch(name, 128)]
    initialize(model.eval(), *inputs)
    deviations = []

    def record(layer, arguments, output):
        axes, intended = (0, 2, 3), 1.0
        if isinstance(layer, Conv2d):
            intended = layer.init_scale
        else:
            output, _ = output
            axes = (0,) + tuple(a + 1 for a in (1, 2) if layer.gain.shape[a] == 1)
        deviations.append(output.float().std(axes, correction=0).flatten().cpu() / intended)

    for layer in model.modules():
        if isinstance(layer, (ActNorm, Conv2d)):
            layer.register_forward_hook(record)
    with torch.no_grad():
        assert model.elbo(*inputs).total.isfinite().all()
    found = torch.cat(deviations)
    assert len(found) > 1000
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_samples_and_their_codes(name, device):
    """Decoded noise is that of float64 on the CPU, and is encoded to the same noise."""
    config, shape, levels = settings(name)
    model = build_model(config, shape, levels, torch.Generator().manual_seed(0))
    initialize(model.eval(), *batch(name, 64))
    wide = copy.deepcopy(model).double()
    model.to(device)
    with torch.no_grad():
        images, noise = (t.double() for t in batch(name, 4))
        z, _ = wide.flow(images + wide.dequantizer.sample(images, noise)[0])
        x, _ = model.flow.inverse(z.float().to(device))
        expected, _ = wide.flow.inverse(z.float().double())
        again, _ = model.flow(x)
    assert x.device.type == device
    # In grey levels; rounding to an image's integers needs 0.5.
    assert (x.cpu().double() - expected).abs().max() <= 1e-3
    assert (again.cpu().double() - z).abs().max() <= 1e-3
    drawn = sample(model, shape, 3, seeded_generator(0))
    assert drawn.shape == (3, *shape) and drawn.max() < levels
    assert np.array_equal(drawn, sample(model, shape, 3, seeded_generator(0)))
