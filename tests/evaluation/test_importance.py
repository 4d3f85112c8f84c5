"""The importance-weighted bound: streamed, nested, and compared with exact enumeration."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

import flowpp
from flowpp import evaluate, train
from flowpp.bijectors import (
    ActNorm,
    Affine,
    Chain,
    ColumnStripes,
    Coupling,
    DataLogit,
    Flip,
    Inverse,
    Sigmoid,
)
from flowpp.conditioner import Block, Conditioner, Conv2d, GatedConv
from flowpp.dequantization import UniformDequantizer, VariationalDequantizer
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.evaluation.bound import evaluate_bound
from flowpp.evaluation.importance import batch_for, importance_bounds, milestones
from flowpp.model import FlowPlusPlus
from flowpp.objective import importance_weighted_bound, log_normal
from flowpp.runs.open_model import load_images, open_model

LEVELS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small model trained for 40 steps on the digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    small = ["filters=8", "blocks=1", "components=2"]
    flags = [f"--model.{flow}.{s}" for flow in ("flow", "dequantizer") for s in small]
    train.main(["digits", *flags, "--training.steps", "40", "--out", str(out)])
    return out


def tiny_flow() -> list:
    """Return two couplings over the two pixels of a 1x2 image."""
    steps = []
    for _ in range(2):
        network = Conditioner(
            Conv2d.create(1, 4, 1),
            [Block(GatedConv.create(4))],
            Conv2d.create(4, MixtureLogisticFamily(2).parameters_per_scalar, 1),
        )
        steps += [ActNorm.create(2), Coupling(network, MixtureLogisticFamily(2)), Flip()]
    return [ColumnStripes(), *steps, Inverse(ColumnStripes())]


@pytest.fixture(scope="module", params=["uniform", "variational"])
def tiny_model(request):
    """A model of 1x2 images with three levels and random weights."""
    torch.manual_seed(1)
    flow = Chain([DataLogit(LEVELS), *tiny_flow()])
    dequantizer = UniformDequantizer(LEVELS)
    if request.param == "variational":
        network = Conditioner(Conv2d.create(2, 3, 1), [])
        stretch = Affine(torch.full((1,), 0.3), torch.full((1,), 0.1))
        dequantizer = VariationalDequantizer(
            LEVELS, ColumnStripes(), network, Chain([stretch, Sigmoid()])
        )
    model = FlowPlusPlus(dequantizer, flow).double().eval()
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def exact_probability(model, image: np.ndarray, points: int = 40) -> float:
    """Integrate the density of x + u over the unit square by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    nodes, weights = (nodes + 1) / 2, weights / 2
    grid = np.array(list(itertools.product(nodes, nodes))).reshape(-1, 1, 1, 2)
    weight = np.array([a * b for a, b in itertools.product(weights, weights)])
    z, log_det = model.flow(torch.from_numpy(image[None] + grid))
    density = torch.exp(log_normal(z) + log_det).numpy()
    return float((weight * density).sum())


def all_images() -> np.ndarray:
    pixels = np.array(list(itertools.product(range(LEVELS), repeat=2)), np.uint8)
    return pixels.reshape(-1, 1, 1, 2)


def test_the_bound_approaches_the_exact_probability_from_below(tiny_model):
    for index, image in enumerate(all_images()):
        exact = -math.log2(exact_probability(tiny_model, image)) / 2
        assert exact == pytest.approx(
            -math.log2(exact_probability(tiny_model, image, points=60)) / 2, abs=1e-5
        )
        copies = np.repeat(image[None], 400, axis=0)
        bounds = importance_bounds(tiny_model, copies, 64, seed=index, batch=4096)
        one, many = bounds[1], bounds[64]
        assert one.mean >= exact - 4 * one.standard_error
        assert many.mean >= exact - 4 * many.standard_error
        # The bias is proportional to the variance of a weight over the number of samples.
        assert many.mean - exact <= max((one.mean - exact) / 4, 4 * many.standard_error)


def test_probabilities_of_all_images_sum_to_at_most_one(tiny_model):
    total = sum(exact_probability(tiny_model, image) for image in all_images())
    assert 0.2 < total <= 1 + 1e-6


def test_the_batch_size_does_not_matter(tiny_model):
    images = all_images()[:5]
    expected = importance_bounds(tiny_model, images, 10, seed=3, batch=1000)
    for batch in (1, 3, 7):
        found = importance_bounds(tiny_model, images, 10, seed=3, batch=batch)
        assert found.keys() == expected.keys()
        for mark in expected:
            assert found[mark].mean == pytest.approx(expected[mark].mean, abs=1e-13)


def test_streaming_agrees_with_the_direct_formula(tiny_model):
    """Compare with log-mean-exp of all weights at once, on the same draws."""
    from flowpp.evaluation import importance

    images, samples = all_images()[:4], 12
    pairs = [(i, s) for s in range(samples) for i in range(len(images))]
    with torch.no_grad():
        weights = importance._log_weights(tiny_model, images, pairs, 5)
    direct = importance_weighted_bound(torch.from_numpy(weights).reshape(samples, -1))
    expected = (-direct / (2 * math.log(2))).mean().item()
    assert importance_bounds(tiny_model, images, samples, seed=5)[samples].mean == pytest.approx(
        expected, abs=1e-12
    )


def test_more_samples_tighten_the_bound_on_real_images(run):
    opened = open_model(run)
    images, model = load_images(opened.config), opened.model
    bounds = importance_bounds(model, images.test[:12], 1024, batch=1024)
    assert list(bounds) == [1, 4, 16, 64, 256, 1024]
    means = [bound.mean for bound in bounds.values()]
    slack = bounds[1024].standard_error / 10  # the images are the same, only the draws differ
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(means))
    assert bounds[1024].mean < bounds[64].mean < bounds[1].mean


def test_milestones():
    assert milestones(1) == [1]
    assert milestones(5) == [1, 4, 5]
    assert milestones(64) == [1, 4, 16, 64]


def test_the_batch_size_depends_on_the_memory(run):
    opened = open_model(run)
    images, model = load_images(opened.config), opened.model
    small, large = (batch_for(model, images.shape, mb) for mb in (4, 64))
    assert 1 <= small < large
    assert large == pytest.approx(16 * small, rel=0.3)
    assert batch_for(model, images.shape, 1e-6) == 1
    with pytest.raises(ValueError, match="positive number of megabytes, got 0"):
        batch_for(model, images.shape, 0)


def test_the_receipt_records_what_the_result_depends_on(run, tmp_path, capsys):
    out = tmp_path / "receipt.json"
    evaluate.main(
        [str(run), "--importance-samples", "4", "--images", "3", "--seed", "2", "--out", str(out)]
    )
    printed = capsys.readouterr().out
    assert "held-out bits/dim on digits, 3 images" in printed
    assert str(out) in printed
    written = json.loads(out.read_text())
    assert [bound["importance_samples"] for bound in written["bounds"]] == [1, 4]
    assert written["bounds"][0]["count"] == 3
    assert f"{written['bounds'][1]['mean']:.4f}" in printed
    assert written["data"]["name"] == "digits"
    assert written["data"]["sha256"] == written["environment"]["data"]["sha256"]
    assert written["weights"]["step"] == 40
    assert written["weights"]["which"] == "moving average"
    assert len(written["weights"]["sha256"]) == 64
    assert written["dtype"] == "float32"
    assert written["environment"]["seed"] == 2
    assert "tf32" in written["environment"]


def test_precisions_agree(run, tmp_path):
    found = []
    for dtype in ("float32", "float64"):
        out = tmp_path / f"{dtype}.json"
        evaluate.main([str(run), "--images", "5", "--dtype", dtype, "--out", str(out)])
        found.append(json.loads(out.read_text())["bounds"][0]["mean"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--importance-samples", "0"], "importance_samples must be at least 1, got 0"),
        (["--images", "0"], "images must be at least 1, got 0"),
        (["--images", "298"], "at most 297, the held-out images of digits, got 298"),
        (["--device", "tpu9"], "device 'tpu9' is not usable"),
        (["--memory", "-1"], "memory must be a positive number of megabytes, got -1"),
    ],
)
def test_invalid_arguments(run, flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(run), *flags])
    assert stop.value.code == 2
    printed = capsys.readouterr().err.replace("│", " ")  # tyro wraps and frames its errors
    assert message in " ".join(printed.split())


def test_data_of_another_hash_are_refused(run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    recorded = json.loads((copy / "environment.json").read_text())
    recorded["data"]["sha256"] = "0" * 64
    (copy / "environment.json").write_text(json.dumps(recorded))
    with pytest.raises(SystemExit):
        evaluate.main([str(copy)])
    assert "trained on data with hash 000000000000..." in capsys.readouterr().err


def test_the_same_weights_images_and_seed_give_one_number(run):
    """During training, at its end, and in any later evaluation."""
    opened = open_model(run)
    images = load_images(opened.config).test[:150]
    terms = evaluate_bound(opened.model, images, torch.Generator().manual_seed(5))
    once = importance_bounds(opened.model, images, 1, seed=5)[1]
    assert terms["bits_per_dim"] == once
    assert importance_bounds(opened.model, images, 4, seed=5)[1] == once
    other = importance_bounds(opened.model, images, 1, seed=6)[1]
    assert abs(other.mean - once.mean) > 1e-6
    wide = importance_bounds(opened.model.double(), images, 1, seed=5)[1]
    assert wide.mean == pytest.approx(once.mean, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": flowpp.load}, "be a FlowPlusPlus, got TrainedModel: use model.model$"),
        ({"model": lambda run: None}, "model must be a FlowPlusPlus, got NoneType"),
        ({"images": torch.from_numpy}, r"must be .* got Tensor: use images.cpu\(\).numpy\(\)"),
        ({"images": lambda x: x.tolist()}, "images must be a NumPy array, got list"),
        ({"images": lambda x: x[:0]}, "images must be at least 1, got 0"),
    ],
)
def test_arguments_of_another_kind(run, change, message):
    opened = open_model(run)
    images = load_images(opened.config).test[:3]
    model = change["model"](run) if "model" in change else opened.model
    images = change["images"](images) if "images" in change else images
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate_bound(model, images, torch.Generator())
    with pytest.raises((TypeError, ValueError), match=message):
        importance_bounds(model, images, 1)


def test_seeds_and_samples_of_another_kind(run):
    opened = open_model(run)
    images = load_images(opened.config).test[:3]
    with pytest.raises(TypeError, match=r"generator must be a Generator, got int: use .*SEED"):
        evaluate_bound(opened.model, images, 5)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        importance_bounds(opened.model, images, 0)


def test_the_standard_error_holds_the_noise_of_the_draws(run):
    """Over many draws of noise for the same images, the mean varies less than it says."""
    opened = open_model(run)
    image = load_images(opened.config).test[:1]
    repeated = image.repeat(64, axis=0)  # the images differ in their noise only
    means = [importance_bounds(opened.model, repeated, 1, seed=s)[1] for s in range(8)]
    spread = np.std([bound.mean for bound in means], ddof=1)
    reported = np.mean([bound.standard_error for bound in means])
    assert 0.5 * spread < reported < 2 * spread
