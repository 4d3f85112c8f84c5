"""Bounds of a model of two layers, number by number; several processes; arguments."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import special

from flowpp.bijectors import ActNorm, Chain, DataLogit
from flowpp.dequantization import UniformDequantizer
from flowpp.evaluation import bound, importance
from flowpp.evaluation.bound import Estimate, evaluate_bound, not_finite
from flowpp.evaluation.importance import (
    batch_for,
    importance_bounds,
    importance_log_probs,
    milestones,
)
from flowpp.model import FlowPlusPlus

SHAPE = (1, 2, 3)
IMAGES = np.random.default_rng(0).integers(8, size=(7, *SHAPE)).astype(np.uint8)
SEED = 5
NATS = 6 * math.log(2)
"""Nats in a bit per dimension."""


@pytest.fixture
def model():
    flow = Chain([DataLogit(8), ActNorm.create(1)])
    return FlowPlusPlus(UniformDequantizer(8), flow).double()


def noise_of(index, draw, seed=SEED):
    """Draw an image's noise as documented: from a random stream of its own."""
    mixed = np.random.SeedSequence((seed, index, draw)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(mixed) // 2)
    return torch.rand(SHAPE, dtype=torch.float64, generator=generator)


def elbo(model, draw=0):
    noise = torch.stack([noise_of(index, draw) for index in range(len(IMAGES))])
    with torch.no_grad():
        return model.elbo(torch.from_numpy(IMAGES), noise)


def expected_terms(terms):
    bits = {"bits_per_dim": -terms.total, "log_q": terms.log_q}
    bits |= {"log_det": terms.log_det, "log_prior": terms.log_prior}
    return {name: values.mean().item() / NATS for name, values in bits.items()}


def means(found):
    return {name: estimate.mean for name, estimate in found.items()}


def seeded():
    return torch.Generator().manual_seed(SEED)


def in_two_processes(compute):
    """Return what both of two processes compute, each in turn with the other's arrays."""
    sent = [[], []]

    def run(rank, received):
        def gather_array(array):
            sent[rank].append(array.copy())
            return np.stack([array, received.pop(0)]) if received else array[None]

        return compute(SimpleNamespace(rank=rank, size=2, gather_array=gather_array))

    run(0, []), run(1, [])
    first, second = list(sent[0]), list(sent[1])
    return run(0, second), run(1, first)


@pytest.fixture
def rows(model, monkeypatch):
    """Numbers of rows that the model has computed at once."""
    seen, compute = [], model.elbo

    def counted(x, noise):
        seen.append(len(x))
        return compute(x, noise)

    monkeypatch.setattr(model, "elbo", counted)
    return seen


def test_the_terms_of_the_bound_in_bits_per_dimension(model, rows, monkeypatch):
    monkeypatch.setattr(bound, "BATCH", 3)
    found = evaluate_bound(model.train(), IMAGES, seeded())
    assert rows == [3, 3, 1] and not model.training
    terms = elbo(model)
    assert means(found) == pytest.approx(expected_terms(terms), rel=1e-13)
    spread = terms.total.std().item() / NATS / math.sqrt(7)
    assert found["bits_per_dim"].standard_error == pytest.approx(spread, rel=1e-12)


@pytest.mark.parametrize("sequential", [False, True])
def test_two_processes_divide_the_batches_of_the_bound(model, rows, monkeypatch, sequential):
    monkeypatch.setattr(bound, "BATCH", 2)

    def compute(group=bound.SINGLE_PROCESS):
        return evaluate_bound(model, IMAGES, seeded(), group, sequential_noise=sequential)

    whole = compute()
    assert in_two_processes(compute) == (whole, whole)
    assert sum(rows) == 3 * len(IMAGES)  # alone, and twice in two processes together


def test_sequential_noise_is_drawn_batch_after_batch(model, monkeypatch):
    monkeypatch.setattr(bound, "BATCH", 3)
    found = evaluate_bound(model, IMAGES, seeded(), sequential_noise=True)
    generator = seeded()
    parts = [
        torch.rand((count, *SHAPE), dtype=torch.float64, generator=generator)
        for count in (3, 3, 1)
    ]
    with torch.no_grad():
        terms = model.elbo(torch.from_numpy(IMAGES), torch.cat(parts))
    assert means(found) == pytest.approx(expected_terms(terms), rel=1e-13)


def test_each_bound_is_a_log_mean_of_the_first_draws(model, rows):
    done = []
    found = importance_log_probs(
        model.train(), IMAGES, 6, seed=SEED, batch=4, progress=done.append
    )
    assert not model.training and done == rows and max(rows) == 4 and sum(rows) == 6 * 7
    weights = np.array([elbo(model, draw).total.numpy() for draw in range(6)])
    assert list(found) == [1, 4, 6]
    for samples, log_probs in found.items():
        expected = special.logsumexp(weights[:samples], axis=0) - math.log(samples)
        np.testing.assert_allclose(log_probs, expected, rtol=1e-13)
    del done[:], rows[:]
    estimates = importance_bounds(model, IMAGES, 6, seed=SEED, batch=4, progress=done.append)
    bits = {samples: -log_probs.mean() / NATS for samples, log_probs in found.items()}
    assert means(estimates) == pytest.approx(bits, rel=1e-13)
    assert done == rows and max(rows) == 4


def test_a_single_image_has_bounds_without_an_error(model):
    term = evaluate_bound(model, IMAGES[:1], seeded())["bits_per_dim"]
    bounds = importance_bounds(model, IMAGES[:1], 1, seed=SEED)
    for found in (term, bounds[1]):
        assert found.mean == pytest.approx(-elbo(model).total[0].item() / NATS, rel=1e-13)
        assert math.isnan(found.standard_error) and found.count == 1


def test_noise_begins_with_the_first_image(model):
    noise = bound.evaluation_noise(model, (3, *SHAPE), seeded())
    assert torch.equal(noise, torch.stack([noise_of(index, 0) for index in range(3)]))


def test_milestones_are_powers_of_four():
    found = {n: milestones(n) for n in (1, 2, 4, 5, 64)}
    assert found == {1: [1], 2: [1, 2], 4: [1, 4], 5: [1, 4, 5], 64: [1, 4, 16, 64]}


def test_defaults_of_the_importance_weighted_bound(model, rows):
    copies = np.repeat(IMAGES, 19, axis=0)
    assert importance_bounds(model, copies, 2) == importance_bounds(
        model, copies, 2, seed=0, batch=128, precision="float32"
    )
    assert max(rows) == 128
    found = importance_log_probs(model, IMAGES, 2)
    np.testing.assert_array_equal(found[2], importance_log_probs(model, IMAGES, 2, seed=0)[2])
    importance_log_probs(model, copies, 1)
    assert max(rows) == 128


def test_two_processes_divide_the_batches_of_the_importance_weighted_bound(model, rows):
    def compute(group=importance.SINGLE_PROCESS):
        return importance_bounds(model, IMAGES, 5, seed=SEED, batch=4, group=group)

    whole = compute()
    for found in in_two_processes(compute):
        assert means(found) == pytest.approx(means(whole), rel=1e-13)
    assert sum(rows) == 3 * 5 * len(IMAGES)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_log_weights_that_are_not_finite_reach_the_bound(model, monkeypatch, value):
    """Without a warning of NumPy: the caller reports them."""
    monkeypatch.setattr(
        importance, "_log_weights", lambda model, images, pairs, seed: np.full(len(pairs), value)
    )
    found = importance_log_probs(model, IMAGES[:2], 4)
    assert all(np.array_equal(found[n], [value] * 2, equal_nan=True) for n in (1, 4))
    process = SimpleNamespace(rank=0, size=1, gather_array=lambda array: np.stack([array, array]))
    found = importance_log_probs(model, IMAGES[:1], 1, group=process)
    assert np.array_equal(found[1], [value], equal_nan=True)


def test_the_precision_is_that_asked_for(model, monkeypatch):
    from flowpp.evaluation.precision import evaluated_in

    seen = []

    def noted(model, precision):
        seen.append(precision)
        return evaluated_in(model, precision)

    for module in (bound, importance):
        monkeypatch.setattr(module, "evaluated_in", noted)
    for precision in ({"precision": "tf32"}, {}):
        evaluate_bound(model, IMAGES, seeded(), **precision)
        importance_bounds(model, IMAGES, 1, **precision)
        importance_log_probs(model, IMAGES, 1, **precision)
    assert seen == ["tf32"] * 3 + ["float32"] * 3


def test_a_halved_batch_is_said_and_changes_nothing(model, monkeypatch, capsys):
    compute = model.elbo

    def limited(x, noise):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(x, noise)

    def results():
        return (
            means(evaluate_bound(model, IMAGES, seeded())),
            means(importance_bounds(model, IMAGES, 4)),
        )

    expected = results()
    monkeypatch.setattr(model, "elbo", limited)
    terms, bounds = results()
    assert terms == pytest.approx(expected[0], rel=1e-13)
    assert bounds == pytest.approx(expected[1], rel=1e-13)
    assert capsys.readouterr().err.count("out of memory with") == 2


@pytest.mark.parametrize(
    ("model_or_images", "error", "message"),
    [
        ({"model": None}, TypeError, "^model must be a FlowPlusPlus, got NoneType$"),
        ({"images": torch.from_numpy(IMAGES)}, TypeError,
         r"^images must be a NumPy array, got Tensor: use images.cpu\(\).numpy\(\)$"),
        ({"images": IMAGES.tolist()}, TypeError, "^images must be a NumPy array, got list$"),
        ({"images": IMAGES[:0]}, ValueError, "^images must be at least 1, got 0$"),
    ],
)  # fmt: skip
def test_models_and_images_of_another_kind(model, model_or_images, error, message):
    given = {"model": model, "images": IMAGES, **model_or_images}
    with pytest.raises(error, match=message):
        evaluate_bound(**given, generator=seeded())
    with pytest.raises(error, match=message):
        importance_log_probs(**given, samples=1)


def test_a_trained_model_is_not_a_model(model):
    class TrainedModel:
        """As `flowpp.load` returns."""

    with pytest.raises(TypeError, match="FlowPlusPlus, got TrainedModel: use model.model$"):
        evaluate_bound(TrainedModel(), IMAGES, seeded())


def test_seeds_and_numbers_of_samples(model):
    message = r"^generator must be a Generator, got int: use torch.Generator\(\).manual_seed\(SEED"
    with pytest.raises(TypeError, match=message):
        evaluate_bound(model, IMAGES, 5)
    with pytest.raises(ValueError, match="^samples must be at least 1, got 0$"):
        importance_log_probs(model, IMAGES, 0)


def test_an_estimate_of_few_values():
    two = Estimate.of(torch.tensor([1.0, 4.0]))
    assert two == Estimate(2.5, pytest.approx(1.5), 2)
    assert str(two) == "2.5000 +- 1.5000" and two.is_finite
    one = Estimate.of(torch.tensor([3.0]))
    assert math.isnan(one.standard_error) and one.count == 1
    assert str(one) == "3.0000 (no standard error: a single image)"
    infinite = Estimate.of(torch.tensor([3.0, math.inf]))
    assert not infinite.is_finite and str(infinite) == "not finite (inf)"


def test_an_interval_of_the_mean():
    two = Estimate(2.5, 1.5, 2)
    assert two.interval() == pytest.approx((2.5 - 12.7062 * 1.5, 2.5 + 12.7062 * 1.5), rel=1e-5)
    assert two.interval(0.5) == pytest.approx((1.0, 4.0))  # Cauchy's quartiles are -1 and 1
    with pytest.raises(ValueError, match="^an interval needs at least 2 images, got 1$"):
        Estimate(2.5, math.nan, 1).interval()


def test_bounds_that_are_not_finite_are_listed():
    finite, nan, infinite = (Estimate(mean, 0.1, 9) for mean in (1.0, math.nan, math.inf))
    assert not_finite({1: finite, 4: finite}) is None
    assert not_finite({1: nan}) == "bits/dim must be finite, got nan with 1 sample"
    text = "bits/dim must be finite, got nan with 1, inf with 16 samples"
    assert not_finite({1: nan, 4: finite, 16: infinite}) == text
    assert not_finite({1: finite, 2: nan}) == "bits/dim must be finite, got nan with 2 samples"


def test_rows_for_an_amount_of_memory(model):
    """The largest layer reads and writes an image, and writes one log-determinant."""
    largest = (6 + 6 + 1) * 8
    assert batch_for(model, SHAPE, 1) == 2**20 // (6 * largest)
    assert batch_for(model, SHAPE, 2.5) == int(2.5 * 2**20) // (6 * largest)
    assert batch_for(model, SHAPE, 1e9) == batch_for(model, SHAPE, 1e6)
    assert batch_for(model, SHAPE, 1e-9) == 1
    assert not any(module._forward_hooks for module in model.modules())
    for megabytes in (0, -1, math.nan):
        message = f"^memory must be a positive number of megabytes, got {megabytes}$"
        with pytest.raises(ValueError, match=message):
            batch_for(model, SHAPE, megabytes)


def test_rows_of_a_model_without_layers(model, monkeypatch):
    monkeypatch.setattr(model, "elbo", lambda x, noise: SimpleNamespace(total=torch.zeros(1)))
    assert batch_for(model, SHAPE, 6) == 2**20


def test_hooks_are_removed_after_an_error(model, monkeypatch):
    def fail(x, noise):
        raise KeyError

    monkeypatch.setattr(model, "elbo", fail)
    with pytest.raises(KeyError):
        batch_for(model, SHAPE, 1)
    assert not any(module._forward_hooks for module in model.modules())


def test_rows_on_a_gpu_are_measured_without_gradients(monkeypatch):
    device, calls = torch.device("cuda", 0), []
    like = SimpleNamespace(device=device)
    model = SimpleNamespace(parameters=lambda: iter([like]), context_spec=None)

    def weights(given, images, pairs, seed):
        assert given is model and not torch.is_grad_enabled()
        calls.append((images.shape, images.dtype, images.max(), pairs, seed))

    def measured(run, device, megabytes):
        run(3)
        return device, megabytes

    monkeypatch.setattr(importance, "_log_weights", weights)
    monkeypatch.setattr(importance, "measured_rows", measured)
    assert batch_for(model, SHAPE, 2.5) == (device, 2.5)
    pairs = [(0, 0), (0, 1), (0, 2)]
    assert calls == [((1, *SHAPE), np.dtype(np.uint8), 0, pairs, 0)]
