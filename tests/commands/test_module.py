"""The trained model as a module: gradients, devices, seeds, and errors that say what to do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import flowpp
from flowpp.config.build import set_compute
from flowpp.evaluation.batch_size import Batches
from flowpp.evaluation.bound import evaluate_bound
from flowpp.evaluation.grids import grid
from flowpp.evaluation.importance import importance_bounds
from flowpp.interop import FlowPlusPlusDistribution
from flowpp.interop.export import export_encode
from flowpp.runs.open_model import load_images
from flowpp.runs.run import Run
from flowpp.runtime.image_tensors import NonFiniteImageError, image_array, pixels
from flowpp.runtime.random_state import seeded_generator

WRONG = (float("nan"), float("inf"), -float("inf"))


@pytest.fixture
def model(tiny_run):
    return flowpp.load(tiny_run[0])


@pytest.fixture(scope="module")
def images(tiny_run):
    return load_images(Run.open(tiny_run[0]).config()).test[:9]


def test_bounds_are_those_of_evaluations(model, images):
    bits = model.bits_per_dim(images)
    expected = evaluate_bound(model.model, images, seeded_generator(0))["bits_per_dim"]
    assert bits.shape == (9,) and bits.mean() == pytest.approx(expected.mean, rel=1e-6)
    tight = model.bits_per_dim(images, samples=4, seed=2)
    of_four = importance_bounds(model.model, images, samples=4, seed=2)[4]
    assert tight.mean() == pytest.approx(of_four.mean, rel=1e-6)
    assert tight.mean() < model.bits_per_dim(images, seed=2).mean()


def test_tensors_give_tensors_with_gradients(model, images):
    x = torch.from_numpy(images)
    loss = model(x).mean()
    loss.backward()
    assert loss.item() == pytest.approx(model.bits_per_dim(images).mean(), rel=1e-6)
    assert all(p.grad is not None for p in model.parameters())
    z = model.encode(x)
    assert z.requires_grad and tuple(z.shape[1:]) == model.latent_shape
    assert torch.equal(model.decode(z.detach()), x)
    assert not model.log_prob(images).dtype.hasobject


def test_training_draws_fresh_noise(model, images):
    x = torch.from_numpy(images)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    model.sample(1)
    assert model.training and model.model.training
    model.eval()
    torch.manual_seed(1)
    one = model.log_prob(images, seed=None)
    torch.manual_seed(1)
    assert np.array_equal(one, model.log_prob(images, seed=None))
    assert not np.array_equal(one, model.log_prob(images, seed=None))


def test_an_optimizer_lowers_the_bound(model, images):
    x = torch.from_numpy(images)
    optimizer = torch.optim.Adam(model.train().parameters(), 3e-3)
    before = model.eval()(x).mean().item()
    for _ in range(5):
        optimizer.zero_grad()
        model.train()(x).mean().backward()
        optimizer.step()
    assert model.eval()(x).mean().item() < before - 0.05


def test_it_is_a_module(model, images, tiny_run):
    other = flowpp.load(tiny_run[0], which="best")
    other.load_state_dict(model.state_dict())
    assert np.array_equal(other.log_prob(images), model.log_prob(images))
    assert np.array_equal(copy.deepcopy(model).log_prob(images), model.log_prob(images))
    wide = copy.deepcopy(model).to(torch.float64)
    np.testing.assert_allclose(wide.log_prob(images), model.log_prob(images), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_it_compiles(model, images):
    compiled = torch.compile(model, backend="aot_eager")
    x = torch.from_numpy(images)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)
    compiled(x).mean().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("convert", ["half", "bfloat16"])
def test_less_than_float32_is_refused(model, convert):
    with pytest.raises(TypeError, match=r"float32 or float64, got .*precision='bfloat16'"):
        getattr(model, convert)()
    assert next(model.parameters()).dtype == torch.float32


def test_any_layout_in_memory(model, images):
    expected = model.log_prob(images)
    for same in (
        images[::-1][::-1],
        images.astype(">i4"),
        images.astype(">f8"),
        images.astype(np.uint32),
        images.tolist(),
        np.asfortranarray(images),
        np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),  # not writable
    ):
        assert np.array_equal(model.log_prob(same), expected)
    assert np.array_equal(model.log_prob(images[:, :, :, ::-1][:, :, :, ::-1]), expected)


def test_no_images(model, images):
    none = images[:0]
    assert model.log_prob(none).shape == model.bits_per_dim(none).shape == (0,)
    assert model.encode(none).shape == (0, *model.latent_shape)
    assert model.decode(model.encode(none)).shape == (0, 1, 8, 8)
    assert [part.shape for part in model.round_trip(none)] == [(0, 1, 8, 8)] * 2
    assert model.log_prob(torch.from_numpy(none)).shape == (0,)


def test_seeds(model, images):
    assert np.array_equal(
        model.sample(2, seed=np.int64(3)), model.sample(2, seed=torch.tensor(3).item())
    )
    assert not np.array_equal(model.sample(2, seed=None), model.sample(2, seed=None))
    with pytest.raises(TypeError, match="seed must be an integer or None, got 1.5"):
        model.log_prob(images, seed=1.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x / 16.0, ValueError, r"between 0 and 1: multiply by 16 \(levels - 1\)"),
        (lambda x: x[0], ValueError, r"got \(1, 8, 8\): for a single image use images\[None\]"),
        (lambda x: x[:, 0], ValueError, r"got \(9, 8, 8\): .* by images\[:, None\]"),
        (lambda x: x[0, 0], ValueError, r"got \(8, 8\): .* by images\[None, None\]"),
        (lambda x: x.transpose(0, 2, 3, 1), ValueError, r"use images.transpose\(0, 3, 1, 2\)"),
        (
            lambda x: torch.from_numpy(x).movedim(1, 3),
            ValueError,
            r"use images.permute\(0, 3, 1, 2\)",
        ),
        (lambda x: x[0].transpose(1, 2, 0), ValueError, r"transpose\(2, 0, 1\)\[None\]"),
        (
            lambda x: x.astype(str),
            TypeError,
            "images must be an array, .* of numbers, got ndarray of <U",
        ),
        (lambda x: x + 0.25 * x, ValueError, "must be integers 0 ... 16, got"),
        (
            lambda x: torch.empty(x.shape, device="meta"),
            ValueError,
            r"on the model's device cpu, got meta: use images.to\('cpu'\)",
        ),
    ],
)
def test_errors_say_what_to_do(model, images, change, error, message):
    with pytest.raises(error, match=message):
        model.log_prob(change(images))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m.sample(2.5), "n must be an integer, got 2.5"),
        (lambda m, x: m.sample(2, batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda m, x: m.sample(2, batch_size=1.5), "batch_size must be an integer, got 1.5"),
        (lambda m, x: m.sample(2, seed=2**64), "seed must be in .*, got 18446744073709551616"),
        (lambda m, x: m.log_prob(x, samples="2"), "samples must be an integer, got '2'"),
        (lambda m, x: m.log_prob([x, x[:, 0, 0, 0]]), "images must be one array .* with labels"),
        (lambda m, x: m.decode(torch.zeros(1, 4, 4, 4) * 1j), "latents must be real numbers"),
        (lambda m, x: export_encode(m, (1, 8, 8)), "FlowPlusPlus, got TrainedModel: use model.mo"),
        (lambda m, x: FlowPlusPlusDistribution(m, (1, 8, 8)), "got TrainedModel: use model.model"),
        (
            lambda m, x: set_compute(m, precision="float16"),
            "precision must be one of .* 'float16'",
        ),
        (lambda m, x: Batches(0, print), "batch must be at least 1, got 0"),
    ],
)
def test_arguments_of_another_kind(model, images, call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(model, images)


def test_words_of_load(tiny_run):
    with pytest.raises(ValueError, match="checkpoint must be one of newest, best, got 'latest'"):
        flowpp.load(tiny_run[0], checkpoint="latest")
    with pytest.raises(ValueError, match="precision must be one of float32, .*, got 'half'"):
        flowpp.load(tiny_run[0], precision="half")
    assert flowpp.load(tiny_run[0], device=torch.device("cpu")).step == 3


def test_latents_of_another_shape(model, images):
    z = model.encode(images)
    with pytest.raises(
        ValueError, match=r"latents must have shape .*: for a single one use latents"
    ):
        model.decode(z[0])
    with pytest.raises(ValueError, match=r"latents must have shape \(N, .*got \(9, 3, 5\)"):
        model.decode(np.zeros((9, 3, 5)))
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        model.log_prob(images, samples=0)


@pytest.mark.parametrize("value", WRONG)
def test_latents_that_are_not_finite_are_no_images(model, images, value):
    z = model.encode(images)
    z[[2, 7], 0, 0, 0] = value
    message = "latents must be finite, got 2 that are not, in 2 of 9 images: index 2, 7"
    for decode in (model.decode, lambda z: model.model.decode_images(torch.from_numpy(z))):
        with pytest.raises(NonFiniteImageError, match=message):
            decode(z)
    with pytest.raises(NonFiniteImageError, match=message):
        model.decode(torch.from_numpy(z))


@pytest.mark.parametrize("value", WRONG)
def test_pixels_that_are_not_finite_are_no_images(value):
    x = torch.full((12, 1, 2, 2), 3.7)
    assert (pixels(x, 17) == 3).all()
    x[2:, 0, 1] = value
    message = r"pixels must be finite, got 20 .* 10 of 12 images: index 2, 3, .* 9, \.\.\.$"
    with pytest.raises(NonFiniteImageError, match=message):
        pixels(x, 17)
    with pytest.raises(NonFiniteImageError, match=message):
        image_array(x, 17)


@pytest.mark.parametrize("value", WRONG)
def test_a_grid_of_pixels_that_are_not_finite_is_refused(value):
    images = np.ones((2, 1, 8, 8))
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="finite pixels, got 1 that are not"):
        grid(images, 17)


def test_a_model_with_a_wrong_weight_gives_no_images(model, images):
    norms = [layer for layer in model.modules() if type(layer).__name__ == "ActNorm"]
    norms[-1].bias.data.view(-1)[0] = float("nan")
    z = np.zeros((3, *model.latent_shape), np.float32)
    distribution = FlowPlusPlusDistribution(model.model, model.image_shape)
    ways = (
        lambda: model.decode(z),
        lambda: model.decode(torch.from_numpy(z)),
        lambda: model.model.decode_images(torch.from_numpy(z)),
        lambda: model.sample(3),
        lambda: distribution.sample((3,)),
    )
    for way in ways:
        with pytest.raises(NonFiniteImageError, match="pixels must be finite, got .* of 3 images"):
            way()
    with pytest.raises(NonFiniteImageError, match="of 9 images: index 0, 1"):
        model.round_trip(images)
