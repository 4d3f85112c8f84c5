"""A model in a loop of the user's own: what is wrong with the images, and what to do."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

import flowpp
from flowpp import data
from flowpp.config import presets
from flowpp.config.serialization import checked
from flowpp.data import ImageSet
from flowpp.objective import bits_per_dim
from flowpp.runs.checkpoint import CheckpointError
from flowpp.runtime.image_tensors import NonFiniteImageError
from flowpp.training.initialization import initialize
from flowpp.training.loop import train
from flowpp.training.setup import prepare
from tiny import TINY

GREY, COLOUR = (1, 8, 8), (3, 8, 16)
COUNT = 4


def built(shape=GREY, levels=17, **changes):
    return flowpp.build_model(dataclasses.replace(TINY.model, **changes), shape, levels)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {"grey": built(), "colour": built(COLOUR, 256)}


@pytest.fixture(scope="module")
def batches():
    torch.manual_seed(1)
    return {
        "grey": torch.randint(17, (COUNT, *GREY)),
        "colour": torch.randint(256, (COUNT, *COLOUR)),
    }


IMAGES = ImageSet("zeros", np.zeros((64, *GREY), np.uint8), np.zeros((9, *GREY), np.uint8), 17)
CALLS = {
    "elbo": lambda model, x, noise: model.elbo(x, noise),
    "forward": lambda model, x, noise: model(x, noise),
    "encode": lambda model, x, noise: model.encode(x, noise),
    "initialize": lambda model, x, noise: initialize(copy.deepcopy(model), x, noise),
}
WRONG_IMAGES = [
    ("colour", lambda x: x.permute(0, 2, 3, 1), r"use images.permute\(0, 3, 1, 2\)$"),
    ("grey", lambda x: x.permute(0, 2, 3, 1), r"use images.permute\(0, 3, 1, 2\)$"),
    ("colour", lambda x: x[0], r"got \(3, 8, 16\): for a single image use images\[None\]$"),
    ("grey", lambda x: x[:, 0], r"\(4, 8, 8\): add the axis of channels by images\[:, None\]$"),
    ("grey", lambda x: x.repeat(1, 3, 1, 1), r"\(4, 3, 8, 8\): convert them to grey, or build"),
    ("colour", lambda x: x[:, :1], r"got \(4, 1, 8, 16\): .*images.expand\(-1, 3, -1, -1\)$"),
    ("colour", lambda x: torch.cat([x, x[:, :1]], 1), r"the alpha channel by images\[:, :3\]$"),
    ("colour", lambda x: x[..., :8], r"\(N, 3, 8, 16\), got \(4, 3, 8, 8\): resize them"),
    ("colour", lambda x: x.numpy(), r"a torch.Tensor, got numpy.ndarray: use torch.from_numpy"),
    ("grey", lambda x: x.tolist(), r"a torch.Tensor, got list: use torch.as_tensor\(images\)$"),
    ("grey", lambda x: [x, x], r"got list of tensors: .* `images, labels = batch`$"),
    ("colour", lambda x: x / 255, r"between 0 and 1: multiply by 255 \(levels - 1\) and round$"),
    ("grey", lambda x: x / 16, r"between 0 and 1: multiply by 16 \(levels - 1\) and round$"),
    ("colour", lambda x: x / 127.5 - 1, r"-1 and 1: use \(\(images \+ 1\) \* 127.5\).round\(\)$"),
    ("colour", lambda x: (x - 120.0) / 60, "between -2 and .*: undo the normalization"),
    ("colour", lambda x: x + 0.25, r"0 ... 255, got \d+.25$|0 ... 255, got \d+.25: round them"),
    ("grey", lambda x: x * 15, "0 ... 16, got .*: build the model with levels=256$"),
    ("colour", lambda x: x.to(torch.int8), "got -.*: larger values need torch.uint8$"),
    ("colour", lambda x: x * float("nan"), "0 ... 255, got nan$"),
    ("grey", lambda x: x > 3, r"got torch.bool: multiply by 16 \(levels - 1\)$"),
    ("grey", lambda x: x.to(torch.complex64), "images must be real numbers, got torch.complex64$"),
    ("grey", lambda x: x.to("meta"), r"on the model's device cpu, got meta: use images.to\('cpu'"),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("kind", "change", "message"), WRONG_IMAGES)
def test_errors_name_the_images_and_what_to_do(models, batches, call, kind, change, message):
    model, x = models[kind], batches[kind]
    noise = model.dequantizer.draw_noise(x.shape)
    call(model, x, noise)
    wrong = change(x)
    if isinstance(wrong, torch.Tensor):
        noise = model.dequantizer.draw_noise(wrong.shape)
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        call(model, wrong, noise)
    assert str(refused.value).startswith("images must ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: None, r"must be a torch.Tensor, from model.draw_noise\(images.shape\)"),
        (lambda n: n.numpy(), "must be a torch.Tensor, .* got ndarray"),
        (lambda n: n[:2], r"noise must have the images' shape \(4, 1, 8, 8\), got \(2, 1, 8, 8\)"),
        (lambda n: n.double(), "of the weights' torch.float32, got torch.float64: use noise.to"),
        (lambda n: n.half(), "must be floating-point, float32 or float64, got torch.float16"),
        (lambda n: n.to("meta"), "noise must be on the model's device cpu, got meta"),
        (torch.rand_like, "needs standard normal noise, as of draw_noise, got .* between 0 and 1"),
    ],
)
def test_noise_that_is_not_the_dequantizers(models, batches, change, message):
    model, x = models["grey"], batches["grey"]
    torch.manual_seed(0)
    with pytest.raises((TypeError, ValueError), match=message):
        model.elbo(x, change(model.dequantizer.draw_noise(x.shape)))


def test_images_of_any_integer_type_give_the_same_bound(models, batches):
    model, x = models["grey"].eval(), batches["grey"]
    noise = model.dequantizer.draw_noise(x.shape)
    expected = model.elbo(x, noise).total
    for dtype in (torch.uint8, torch.uint16, torch.int32, torch.uint64, torch.float32):
        assert torch.equal(model.elbo(x.to(dtype), noise).total, expected)
    strided = x.flip(3).flip(3).to(memory_format=torch.channels_last)
    assert torch.equal(model.elbo(strided, noise).total, expected)
    assert model.elbo(x[:0], noise[:0]).total.shape == (0,)


def test_other_sizes_where_the_layers_take_them(batches):
    flow = dataclasses.replace(TINY.model.flow, attention="none", act_norm="channel")
    model = built(flow=flow, dequantization="uniform")
    x = torch.zeros(2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"got \(2, 1, 16, 16\): resize them, or build"):
        model.elbo(x, torch.rand_like(x))
    model.image_shape = None
    assert model.elbo(x, torch.rand_like(x)).total.shape == (2,)
    assert model.latent_shape is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.numpy(), r"latents must be a torch.Tensor, .*torch.from_numpy\(latents\)"),
        (lambda z: z[0], r"shape \(N, 4, 4, 4\), got \(4, 4, 4\): for a single one use latents\["),
        (lambda z: z.reshape(-1, 16, 2, 2), r"shape \(N, 4, 4, 4\), got \(4, 16, 2, 2\)"),
        (lambda z: z.double(), "latents must be of the weights' torch.float32, got torch.float64"),
    ],
)
@pytest.mark.parametrize("method", ["decode", "decode_images"])
def test_latents_of_another_kind(models, change, message, method):
    model = models["grey"]
    assert model.latent_shape == (4, 4, 4)
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(model, method)(change(torch.zeros(COUNT, 4, 4, 4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TINY, GREY, 17), "config must be a ModelConfig, got Config: use config.model"),
        (("digits", GREY, 17), "got str 'digits': use flowpp.config.presets.get"),
        (({}, GREY, 17), "got dict: use flowpp.config.serialization.from_dict"),
        ((TINY.model.flow, GREY, 17), r"got FlowConfig: use ModelConfig\(flow=config\)"),
        ((TINY.model, 8, 17), r"image_shape must be \(channels, height, width\), got 8"),
        ((TINY.model, (8, 8), 17), r"image_shape must be .*, got \(8, 8\)"),
        ((TINY.model, (5, *GREY), 17), r"got \(5, 1, 8, 8\): without the batch, use \(1, 8, 8\)"),
        ((TINY.model, (8, 8, 3), 17), r"channels come first, use \(3, 8, 8\)"),
        ((TINY.model, (3, 31, 31), 256), r"a multiple of 2 .* got 31: the nearest .* 30 and 32$"),
        ((TINY.model, GREY, 17.5), "needs an integer number of levels, got 17.5"),
        ((TINY.model, GREY, float("nan")), "needs an integer number of levels, got nan"),
        ((TINY.model, GREY, float("inf")), "needs an integer number of levels, got inf"),
        ((TINY.model, GREY, None), "needs an integer number of levels, got None"),
        ((TINY.model, GREY, 17, 3), r"generator must be .*use torch.Generator\(\).manual_seed"),
    ],
)
def test_a_model_is_built_of_model_settings(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        flowpp.build_model(*arguments)


def test_sizes_may_be_numpys():
    model = flowpp.build_model(TINY.model, tuple(np.array(GREY)), np.int64(17))
    assert model.image_shape == GREY and model.levels == 17


def test_initialized_weights_are_not_initialized_again(batches, tiny_run):
    model, x = built(), batches["grey"]
    noise = model.dequantizer.draw_noise(x.shape)
    initialize(model, x, noise)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="fresh weights, .* set model.initialized = False"):
        initialize(model, x, noise)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.initialized = False
    initialize(model, x, noise)
    with pytest.raises(ValueError, match="fresh weights"):
        initialize(flowpp.load(tiny_run[0]), x)


@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
@pytest.mark.parametrize("compiled", ["in place", "wrapped", "data parallel"])
def test_a_compiled_model_is_initialized_as_any_other(batches, compiled):
    x = batches["grey"]
    model = built().eval()  # without dropout
    noise = model.dequantizer.draw_noise(x.shape)
    expected = copy.deepcopy(model)
    given = model
    if compiled == "in place":
        model.compile(backend="eager")
    else:
        given = {"wrapped": lambda m: torch.compile(m, backend="eager"),
                 "data parallel": torch.nn.DataParallel}[compiled](model)  # fmt: skip
    initialize(given, x, noise)
    initialize(expected, x, noise)
    assert model.initialized
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_partial_state_dict_leaves_a_model_fresh():
    model, weights = built(), built().state_dict()
    model.load_state_dict(dict(list(weights.items())[:3]), strict=False)
    assert not model.initialized
    model.load_state_dict(weights)
    assert model.initialized


def test_a_batch_that_no_model_can_be_fitted_to(batches):
    model, x = built(), batches["grey"]
    noise = model.dequantizer.draw_noise(x.shape)
    for few in (0, 1):
        with pytest.raises(ValueError, match=f"at least 2 images, better 64 or more, got {few}"):
            initialize(model, x[:few], noise[:few])
    noise[1, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteImageError, match="noise must be finite, got 1 .* index 1"):
        initialize(model, x, noise)
    assert not model.initialized


def test_bits_per_dim_of_something_else(models, batches):
    model, x = models["grey"], batches["grey"]
    elbo = model.elbo(x, model.dequantizer.draw_noise(x.shape))
    with pytest.raises(TypeError, match="log_prob must be a tensor, got an Elbo: use its total"):
        bits_per_dim(elbo, 64)
    with pytest.raises(TypeError, match=r"dims must be an integer, .* got \(1, 8, 8\)"):
        bits_per_dim(elbo.total, GREY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: data.load(TINY), "config must be a DataConfig, got Config: use config.data"),
        (lambda out: data.load("digits"), "got str 'digits': use flowpp.config.presets.get"),
        (lambda out: train(TINY.model, out), "config must be a Config, got ModelConfig: use"),
        (lambda out: train("digits", out), "got str 'digits': use flowpp.config.presets.get"),
        (lambda out: train(TINY, out, np.zeros(3)), "prepared must be .* ndarray; .* flowpp.fit"),
        (lambda out: presets.get(TINY), "preset must be a name, got Config"),
        (lambda out: prepare(TINY, images=np.zeros(3)), "images must be an ImageSet, got ndarray"),
        (
            lambda out: train(TINY, out, (built(), IMAGES)),
            r"prepared\[0\] must be an ImageSet, got F",
        ),
        (lambda out: ImageSet("x", torch.zeros(3), torch.zeros(3), 17), "a NumPy array, got Tens"),
    ],
)
def test_settings_of_another_kind(tmp_path, call, message):
    with pytest.raises(TypeError, match=message):
        call(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("shape", "levels"), [((1, 16, 16), 17), (GREY, 16)])
def test_a_prepared_model_of_other_images(tmp_path, shape, levels):
    with pytest.raises(ValueError, match=r"of shape \(1, 8, 8\) and 17 levels, got one for"):
        train(TINY, tmp_path / "run", (IMAGES, built(shape, levels)))
    assert not (tmp_path / "run").exists()


def test_a_file_of_torch_save_is_named(tmp_path):
    torch.save(built().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="got a file of torch.save: .*load_state_dict"):
        flowpp.load(tmp_path / "weights.pt")


def test_settings_may_be_numpys_numbers_but_not_text():
    changed = dataclasses.replace(TINY.training, steps=np.int64(5), learning_rate=np.float32(0.5))
    settings = checked(dataclasses.replace(TINY, training=changed)).training
    assert type(settings.steps) is int and type(settings.learning_rate) is float
    with pytest.raises(ValueError, match="training.steps must be int, got 2.0"):
        checked(dataclasses.replace(TINY, training=dataclasses.replace(changed, steps=2.0)))
