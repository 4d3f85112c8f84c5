"""Augmented models, built, trained, evaluated, sampled and converted as others are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from same_runs import same_state

import flowpp
from conformance.adapters.flowpp import to_reference
from flowpp.config import ModelConfig
from flowpp.config.build import build_model, set_compute
from flowpp.config.serialization import from_dict, to_dict
from flowpp.evaluation import fingerprint
from flowpp.evaluation.comparison import Float64, compare
from flowpp.evaluation.diagnostics import diagnose
from flowpp.evaluation.fingerprint import Fingerprint
from flowpp.evaluation.importance import importance_bounds
from flowpp.evaluation.pixel_bits import pixel_bits
from flowpp.interop.distribution import FlowPlusPlusDistribution
from flowpp.interop.export import Encode, example_inputs
from flowpp.interop.released import released_variables
from flowpp.objective import log_normal
from flowpp.runs.run import Run
from flowpp.training.initialization import initialize
from flowpp.training.loop import train
from tiny import TINY

SHAPE, LEVELS, AUGMENT = (1, 8, 8), 17, 3
CONFIG = replace(
    TINY,
    model=replace(TINY.model, augment=AUGMENT),
    training=replace(TINY.training, importance_samples=2),
)


@pytest.fixture(params=["variational", "uniform"])
def model(request):
    settings = replace(CONFIG.model, dequantization=request.param)
    generator = torch.Generator().manual_seed(0)
    built = build_model(settings, SHAPE, LEVELS, generator).double().eval()
    x = torch.randint(LEVELS, (16, *SHAPE), generator=generator)
    initialize(built, x, built.draw_noise(x.shape, dtype=torch.float64, generator=generator))
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return built


@pytest.fixture
def batch(model):
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(LEVELS, (4, *SHAPE), generator=generator)
    return x, model.draw_noise(x.shape, dtype=torch.float64, generator=generator)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "augmented"
    train(CONFIG, out)
    return out


def test_no_augmentation_is_the_former_model():
    """The same names, the same random weights, and the dequantizer's noise."""
    plain, augmented = (
        build_model(replace(TINY.model, augment=channels), SHAPE, LEVELS, torch.Generator())
        for channels in (0, AUGMENT)
    )
    assert plain.augmenter is None
    assert not [name for name in plain.state_dict() if "augmenter" in name]
    assert [name for name in augmented.state_dict() if name.startswith("augmenter.flow.")]
    draws = [
        source.draw_noise((2, *SHAPE), generator=torch.Generator().manual_seed(0))
        for source in (plain, plain.dequantizer)
    ]
    assert torch.equal(*draws)
    stored = to_dict(TINY.model)
    del stored["augment"]  # as in runs of earlier versions
    assert from_dict(ModelConfig, stored) == TINY.model


def test_the_reference_twin_agrees(model, batch):
    twin = to_reference(model)
    x, noise = (value.numpy() for value in batch)
    with torch.no_grad():
        bound = model.elbo(*batch).total.numpy()
    np.testing.assert_allclose(twin.elbo(x, noise).total, bound, atol=1e-9)


def test_latents_hold_the_augmentation_and_images_do_not(model, batch):
    x, noise = batch
    assert noise.shape == (4, 1 + AUGMENT, 8, 8) == (4, *model.augmented_shape(SHAPE))
    with torch.no_grad():
        z = model.encode(x, noise)
        assert tuple(z.shape[1:]) == model.latent_shape and z[0].numel() == noise[0].numel()
        u, _ = model.dequantizer.sample(x, noise[:, :1])
        torch.testing.assert_close(model.decode(z), x + u, atol=1e-8, rtol=0)
        assert torch.equal(model.decode_images(z).long(), x)


def test_rounded_noise_is_that_of_each_part(model):
    noise = model.draw_noise(SHAPE, dtype=torch.float64)
    rounded = model.round_noise(noise, torch.float32)
    assert torch.equal(rounded[:1], model.dequantizer.round_noise(noise[:1], torch.float32))
    assert torch.equal(rounded[1:], noise[1:].float())


@pytest.mark.parametrize("wrong", [lambda n: n[:, :1], lambda n: n[:, :, :4], lambda n: n[:2]])
def test_other_noise_is_refused(model, batch, wrong):
    with pytest.raises(ValueError, match=r"noise must have shape \(4, 4, 8, 8\), that of"):
        model.elbo(batch[0], wrong(batch[1]))


def test_uniform_noise_for_the_augmentation_is_refused(model, batch):
    x, noise = batch
    noise = torch.cat([noise[:, :1], torch.rand_like(noise[:, 1:])], dim=1)
    with pytest.raises(ValueError, match="Augmenter needs standard normal noise"):
        model.elbo(x, noise)


def test_bits_of_pixels_and_of_layers_sum_to_those_of_images(model, batch):
    x, noise = batch
    with torch.no_grad():
        bits = -model.elbo(x, noise).total / math.log(2)
    by_pixel = pixel_bits(model, x, noise)
    torch.testing.assert_close(by_pixel.sum((1, 2)), bits, rtol=1e-9, atol=0)
    images = x.numpy().astype(np.uint8)
    diagnosis = diagnose(model, images, torch.Generator().manual_seed(0))
    assert {name.partition("/")[0] for name in diagnosis.layers} >= {"augmenter", "flow"}
    assert diagnosis.round_trip[0] < 1e-8


def test_more_importance_samples_give_a_tighter_bound(model, batch):
    bounds = importance_bounds(model, batch[0].numpy().astype(np.uint8), 16)
    assert bounds[16].mean < bounds[4].mean < bounds[1].mean


def test_a_fingerprint_keeps_both_contexts(model, batch, tmp_path):
    images = batch[0].numpy().astype(np.uint8)
    found = fingerprint.record(model, images, 0, {"device": "cpu", "device_name": None,
                                                  "dtype": "float64"})  # fmt: skip
    found.save(tmp_path / "fingerprint.npz")
    read = Fingerprint.load(tmp_path / "fingerprint.npz")
    report = compare(read, Float64(model))
    assert any(row["layer"].startswith("augmenter/") for row in report["layers"])
    assert all(row["log_det"] == row["output"] == 0 for row in report["layers"])


def test_as_a_distribution_and_as_an_exported_encoder(model, batch):
    x, noise = batch
    distribution = FlowPlusPlusDistribution(model, SHAPE, importance_samples=2)
    with torch.no_grad():
        bound = model.elbo(x, noise).total
        assert torch.equal(distribution.log_prob(x, noise), bound)
        assert distribution.log_prob(x, torch.stack([noise, noise])).allclose(bound)
        assert distribution.log_prob(x).shape == (4,)
        assert distribution.sample((2,)).shape == (2, *SHAPE)
        assert distribution.dequantized().event_shape == (1 + AUGMENT, 8, 8)
        z, log_det, log_q = Encode(model)(x.double(), noise)
        torch.testing.assert_close(log_normal(z) + log_det - log_q, bound)
        assert example_inputs(model, x.double())[1].shape == noise.shape


def test_released_variables_have_no_augmentation(model):
    with pytest.raises(ValueError, match="model.augment must be 0"):
        released_variables(model)


@pytest.mark.parametrize("settings", [{"memory": "low"}, {"precision": "bfloat16"}])
def test_other_arithmetic_reaches_the_augmenter(settings):
    torch.manual_seed(0)
    model = build_model(CONFIG.model, SHAPE, LEVELS).eval()
    x = torch.randint(LEVELS, (4, *SHAPE))
    noise = model.draw_noise(x.shape)
    initialize(model, x, noise)
    bias = model.augmenter.context_network.proj_in.bias
    totals, gradients = [], []
    for changed in (False, True):
        set_compute(model, **(settings if changed else {}))
        total = model.elbo(x, noise).total
        (gradient,) = torch.autograd.grad(total.sum(), bias)
        totals.append(total)
        gradients.append(gradient)
    assert gradients[0].abs().max() > 0
    if "memory" in settings:
        assert torch.equal(*totals) and torch.equal(*gradients)
    else:
        assert not torch.equal(*totals)
        torch.testing.assert_close(*totals, rtol=0.02, atol=1.0)


def test_a_trained_model_is_used_as_any_other(run):
    trained = flowpp.load(run)
    images = np.random.default_rng(0).integers(0, LEVELS, (3, *SHAPE)).astype(np.uint8)
    assert trained.sample(2).shape == (2, *SHAPE)
    z = trained.encode(images)
    assert z.shape == (3, *trained.latent_shape)
    np.testing.assert_array_equal(trained.decode(z), images)
    reconstructed, error = trained.round_trip(images)
    np.testing.assert_array_equal(reconstructed, images)
    assert error.shape == images.shape and error.max() < 0.1
    one, many = (trained.bits_per_dim(images, samples=n).mean() for n in (1, 8))
    assert many < one


def test_an_augmented_run_resumes_bit_for_bit(run, tmp_path):
    shorter = replace(CONFIG, training=replace(CONFIG.training, minutes=1e-9))
    train(shorter, tmp_path / "run")
    assert Run.open(tmp_path / "run").load_checkpoint().step < CONFIG.training.steps
    train(CONFIG, tmp_path / "run", resume=True)
    assert same_state(run, tmp_path / "run")


def test_settings_are_checked():
    with pytest.raises(ValueError, match="augment must be at least 0, got -1"):
        replace(TINY.model, augment=-1)
    squeezed = replace(TINY.model.dequantizer, layout="squeeze, channels 1")
    with pytest.raises(ValueError, match="one kind of split"):
        replace(TINY.model, dequantization="uniform", augment=1, dequantizer=squeezed)
    with pytest.raises(ValueError, match="width must be a multiple of 2"):
        build_model(replace(TINY.model, augment=1), (1, 8, 7), LEVELS)
