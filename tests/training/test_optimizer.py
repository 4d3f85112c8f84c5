"""Adam as in TensorFlow 1, clipping, and the learning rate."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flowpp.config import TrainingConfig
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.learning_rate import learning_rate
from flowpp.training.optimizer import Adam


def float32(value):
    return float(np.float32(value))


# TensorFlow keeps these in float32, as well as the running powers of the betas.
BETA1, BETA2, EPSILON = float32(0.9), float32(0.999), float32(1e-8)


def scalar_adam(w, gradients, rates):
    """Apply the formula to one weight, for a list of gradients."""
    m = v = 0.0
    power1 = power2 = 1.0
    for g, rate in zip(gradients, rates, strict=True):
        power1, power2 = float32(power1 * BETA1), float32(power2 * BETA2)
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        step = rate * math.sqrt(1 - power2) / (1 - power1)
        w = w - step * m / (math.sqrt(v) + EPSILON)
    return w


def test_adam_follows_the_scalar_formula():
    generator = torch.Generator().manual_seed(1)
    shapes = [(3,), (2, 2), ()]
    params = [torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes]
    starts = [p.clone() for p in params]
    # Gradients of very different magnitudes; the smallest are of the order of epsilon.
    gradients = [
        [torch.randn(s, dtype=torch.float64, generator=generator) * 10.0**e for s in shapes]
        for e in (0, -8, 3, -9, -8, 1)
    ]
    rates = [1e-3, 2e-3, 3e-3, 3e-3, 3e-3, 1e-3]
    optimizer = Adam(params, lr=0.0)
    for step_gradients, rate in zip(gradients, rates, strict=True):
        for p, g in zip(params, step_gradients, strict=True):
            p.grad = g.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    for index, (p, start) in enumerate(zip(params, starts, strict=True)):
        for position in range(p.numel()):
            expected = scalar_adam(
                start.reshape(-1)[position].item(),
                [g[index].reshape(-1)[position].item() for g in gradients],
                rates,
            )
            assert p.reshape(-1)[position].item() == pytest.approx(expected, rel=1e-14, abs=1e-16)


@pytest.mark.parametrize("g", [3.0, -1e-3, 1e-7, 1e-9])
def test_first_step_has_a_closed_form(g):
    """m = (1-b1) g, v = (1-b2) g^2, so the step is lr g / (|g| + eps / sqrt(1-b2))."""
    w = torch.zeros(1, dtype=torch.float64)
    w.grad = torch.tensor([g], dtype=torch.float64)
    Adam([w], lr=0.5).step()
    expected = -0.5 * g / (abs(g) + EPSILON / math.sqrt(1 - BETA2))
    assert w.item() == pytest.approx(expected, rel=1e-13)


def test_epsilon_is_not_where_torch_has_it():
    """The two forms differ for gradients near epsilon."""
    ours, theirs = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    ours.grad, theirs.grad = torch.full_like(ours, 1e-8), torch.full_like(theirs, 1e-8)
    Adam([ours], lr=1.0).step()
    torch.optim.Adam([theirs], lr=1.0).step()
    assert theirs.item() == pytest.approx(-0.5, rel=1e-6)
    assert ours.item() == pytest.approx(-1 / (1 + 1 / math.sqrt(1e-3)), rel=1e-4)


def test_a_gradient_in_the_memory_layout_of_its_weight_is_not_copied():
    class Copies(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten.copy_.default
            return function(*args, **(kwargs or {}))

    updated = []
    for strides in ((3, 1, 1, 1), (3, 1, 3, 3), (1, 4, 1, 1)):  # the third is the transpose
        weight = torch.arange(12.0).reshape(4, 3, 1, 1).requires_grad_()
        weight.grad = torch.empty_strided((4, 3, 1, 1), strides)
        weight.grad[:, :, 0, 0] = torch.arange(12.0).reshape(4, 3)
        with Copies() as copies:
            Adam([weight], 0.1).step()
        updated.append((weight.detach(), copies.count))
    (expected, none), *others = updated
    assert all(torch.equal(weight, expected) for weight, _ in others)
    assert [none, *(count for _, count in others)] == [0, 0, 1]


def test_a_gradient_may_have_other_strides_than_its_weight():
    """torch's fused kernel would pair elements by their position in memory."""
    gradient = torch.arange(12.0).reshape(4, 3).T
    weights = [torch.ones(3, 4), torch.ones(3, 4)]
    for w, g in zip(weights, (gradient, gradient.contiguous()), strict=True):
        w.grad = g
        Adam([w], lr=0.1, epsilon=1.0).step()
    assert torch.equal(*weights)


def test_parameters_without_gradient_stay():
    used, unused = torch.ones(1), torch.ones(1)
    used.grad = torch.ones(1)
    Adam([used, unused], lr=0.1).step()
    assert used.item() != 1 and unused.item() == 1


def test_state_survives_a_round_trip():
    def run(optimizer, w, count):
        for k in range(count):
            w.grad = torch.full_like(w, float(k + 1))
            optimizer.step()

    straight = torch.zeros(2)
    first = Adam([straight], lr=0.1)
    run(first, straight, 2)
    resumed = straight.clone()
    second = Adam([resumed], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # torch shares the tensors
    run(first, straight, 2)
    run(second, resumed, 2)
    assert torch.equal(straight, resumed)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"lr": -1.0}, "learning rate must be at least 0, got -1.0"),
        ({"lr": 1.0, "betas": (0.9, 1.0)}, r"betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        ({"lr": 1.0, "epsilon": -1e-8}, "epsilon must be at least 0, got -1e-08"),
    ],
)
def test_adam_refuses(settings, needed):
    with pytest.raises(ValueError, match=needed):
        Adam([torch.zeros(1)], **settings)


def test_clipping_is_by_the_norm_of_all_gradients():
    a, b = torch.zeros(2), torch.zeros(1)
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_by_global_norm([a, b], 1.0).item() == 5.0
    assert torch.allclose(a.grad, torch.tensor([0.6, 0.0]))
    assert torch.allclose(b.grad, torch.tensor([0.8]))


def test_small_gradients_are_not_clipped():
    a = torch.zeros(2)
    a.grad = torch.tensor([0.3, 0.4])
    assert clip_by_global_norm([a], 1.0).item() == pytest.approx(0.5)
    assert torch.equal(a.grad, torch.tensor([0.3, 0.4]))


SETTINGS = TrainingConfig(
    steps=100, learning_rate=0.5, schedule="warm-up 10, constant 60%, cosine end 0"
)


def test_warm_up_is_linear_and_reaches_the_peak_in_its_last_step():
    assert [learning_rate(s, SETTINGS) for s in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])


def test_a_cosine_follows_the_plateau_and_ends_near_zero():
    assert learning_rate(60, SETTINGS) == 0.5
    rates = [learning_rate(s, SETTINGS) for s in range(60, 101)]
    assert all(a > b for a, b in zip(rates[:-1], rates[1:], strict=True))
    assert 0 < rates[-1] < 0.001
    assert learning_rate(80, SETTINGS) + learning_rate(81, SETTINGS) == pytest.approx(0.5)


def test_the_rate_stays_constant_without_further_pieces():
    constant = dataclasses.replace(SETTINGS, schedule="warm-up 10")
    assert learning_rate(100, constant) == 0.5


def test_no_warm_up_unless_the_schedule_has_one():
    assert learning_rate(1, dataclasses.replace(SETTINGS, schedule="constant end")) == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("sample_count", -1),
        ("threads", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("max_grad_norm", float("inf")),
        ("schedule", "constant 150%"),
        ("ema_decay", 1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"training\.{name} must .* got {value!r}"):
        dataclasses.replace(SETTINGS, **{name: value})


def test_the_device_skips_a_step_or_does_it():
    """A finite step has the same bits with the flag, and a skipped one changes no tensor."""
    generator = torch.Generator().manual_seed(3)
    plain, flagged = (torch.zeros(5, requires_grad=True) for _ in range(2))
    optimizers = Adam([plain], 1e-2), Adam([flagged], 1e-2)
    skip = optimizers[1].skip_if = torch.zeros(())
    for step in range(4):
        gradient = torch.randn(5, generator=generator)
        if step == 2:  # between two steps, a skipped one
            skip.fill_(1)
            flagged.grad = torch.full_like(gradient, torch.nan)
            settings = dict(optimizers[1].param_groups[0])
            optimizers[1].step()
            optimizers[1].param_groups[0].update(settings)  # the powers are the host's
            skip.fill_(0)
        for parameter, optimizer in zip((plain, flagged), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
        assert torch.equal(plain, flagged)
        for name in "mv":
            assert torch.equal(
                optimizers[0].state[plain][name], optimizers[1].state[flagged][name]
            )
