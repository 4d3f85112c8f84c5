"""Muon against its formula in float64, and against torch's own."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from same_runs import same_state
from torch import distributed

from flowpp.config import TrainingConfig
from flowpp.config.build import build_model
from flowpp.runs.checkpoint import CheckpointError
from flowpp.runtime.precision import float32_precision
from flowpp.training.gradients import averaging_gradients
from flowpp.training.loop import train
from flowpp.training.muon import Muon, block_kernels, input_kernels, orthogonalized
from flowpp.training.optimizer import Adam, make_optimizer
from flowpp.training.optimizer_state import NamedState
from tf32_rounding import TF32Rounding
from tiny import TINY

SHAPES = {
    "wide": ((4, 3, 3, 3), 1),
    "another wide": ((4, 3, 3, 3), 1),
    "square": ((5, 5, 1, 1), 1),
    "tall": ((6, 2, 1, 1), 1),
    "three squares": ((12, 4, 1, 1), 3),
    "three tall": ((9, 2, 1, 1), 3),
    "matrix": ((3, 7), 1),
}
"""Kernels, with the number of matrices in each."""
PARTS = {name: parts for name, (_, parts) in SHAPES.items()}
RATES = [1e-3, 2e-3, 3e-3, 1e-3]


def polynomial(x):
    """One step for a singular value: a x + b x^3 + c x^5."""
    return 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5


def newton_schulz(matrix):
    """X <- a X + (b A + c A^2) X with A = X X^T, five times."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def trained(kernel, gradients, parts):
    """Return a kernel after steps with the rates above."""
    average = np.zeros_like(kernel)
    for gradient, rate in zip(gradients, RATES, strict=True):
        average = 0.95 * average + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * average
        steps = []
        for rows in np.split(ahead, parts):
            matrix = rows.reshape(len(rows), -1)
            step = 0.2 * math.sqrt(max(matrix.shape)) * newton_schulz(matrix)
            steps.append(step.reshape(rows.shape))
        kernel = kernel - 3 * rate * np.concatenate(steps)
    return kernel


def drawn(dtype=torch.float64, seed=0):
    """Return kernels and a vector, which is no kernel."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, (shape, _) in SHAPES.items()} | {"bias": (5,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in shapes.items()
    }


def take_steps(optimizer, named, rates=RATES, first_seed=1, prepare=lambda gradient: gradient):
    for seed, rate in enumerate(rates, first_seed):
        dtype = next(iter(named.values())).dtype
        for name, gradient in drawn(dtype, seed).items():
            if name in named:
                named[name].grad = prepare(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()


def test_steps_follow_the_formula():
    named, starts = drawn(), drawn()
    take_steps(Muon(named.items(), 0.0, PARTS), named)
    gradients = [drawn(seed=seed) for seed in range(1, 1 + len(RATES))]
    for name, parts in PARTS.items():
        expected = trained(starts[name].numpy(), [g[name].numpy() for g in gradients], parts)
        np.testing.assert_allclose(named[name].numpy(), expected, rtol=0, atol=1e-13)


def test_other_parameters_are_updated_by_adam():
    named, alone = drawn(), {"bias": drawn()["bias"]}
    take_steps(Muon(named.items(), 0.0, PARTS), named)
    take_steps(Adam(alone.items(), 0.0), alone)
    assert torch.equal(named["bias"], alone["bias"])


def test_steps_do_not_depend_on_the_order_in_memory():
    last = torch.channels_last
    layouts = [
        lambda t: t.contiguous(memory_format=last) if t.ndim == 4 else t.clone(),
        lambda t: t.mT.contiguous().mT if t.ndim == 2 else t.clone(),
    ]
    expected = drawn()
    take_steps(Muon(expected.items(), 0.0, PARTS), expected)
    for weight_layout in layouts:
        for gradient_layout in layouts:
            named = {name: weight_layout(tensor) for name, tensor in drawn().items()}
            strides = {name: tensor.stride() for name, tensor in named.items()}
            optimizer = Muon(named.items(), 0.0, PARTS)
            take_steps(optimizer, named, prepare=gradient_layout)
            for name, tensor in named.items():
                torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-13)
                assert tensor.stride() == optimizer.state[tensor]["m"].stride() == strides[name]


def test_a_step_is_that_of_torch_but_for_its_half_precision():
    shapes = [(16, 48), (48, 16), (32, 32)]
    generator = torch.Generator().manual_seed(0)
    ours = {str(shape): torch.zeros(shape) for shape in shapes}
    theirs = [torch.zeros(shape) for shape in shapes]
    optimizers = (
        Muon(ours.items(), 1e-2, dict.fromkeys(ours, 1)),
        torch.optim.Muon(theirs, 3e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for own, other in zip(ours.values(), theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for own, other in zip(ours.values(), theirs, strict=True):
        assert (own - other).norm() < 0.02 * own.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12), (12, 10), (8, 12)])
def test_singular_values_come_near_1(shape, dtype):
    """As the polynomial says, for all singular values: U S V^T becomes U p(S) V^T."""
    generator = torch.Generator().manual_seed(2)
    random = torch.randn(shape, generator=generator, dtype=torch.float64)
    u, _, v = torch.linalg.svd(random, full_matrices=False)
    values = torch.logspace(-2.8, 0, min(shape), dtype=torch.float64)
    scales = (1e-3, 1.0, 1e9)
    got = orthogonalized(torch.stack([scale * (u * values) @ v for scale in scales]).to(dtype))
    assert got.dtype == dtype
    for matrix, scale in zip(got.double(), scales, strict=True):
        expected = values / (values.norm() + 1e-7 / scale)
        for _ in range(5):
            expected = polynomial(expected)
        allowed = 1e4 * torch.finfo(dtype).eps
        assert (matrix - (u * expected) @ v).abs().max() <= allowed
    large = values > 0.0015 * values.norm()
    assert large.sum() >= min(shape) - 1
    assert expected[large].min() > 0.68 and expected[large].max() < 1.21


def test_zero_and_rank_one_gradients():
    """Zero singular values remain zeros, though rounding makes eigenvalues of X X^T negative."""
    zero = torch.zeros(1, 5, 9)
    assert torch.equal(orthogonalized(zero), zero)
    generator = torch.Generator().manual_seed(4)
    for rows, columns in ((64, 300), (300, 64), (64, 64)):
        outer = torch.randn(rows, 1, generator=generator) * torch.randn(
            columns, generator=generator
        )
        scale = polynomial(polynomial(polynomial(polynomial(polynomial(1.0)))))
        expected = scale * outer / outer.norm()
        assert (orthogonalized(outer[None])[0] - expected).abs().max() < 1e-4


def test_products_are_not_rounded_to_tf32():
    """Rounded to TF32, eigenvalues near zero become negative, and the iteration diverges."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 64, 8, generator=generator) @ torch.randn(1, 8, 64, generator=generator)
    with TF32Rounding(), float32_precision("tf32"):
        rounded = orthogonalized(x)
    assert torch.equal(rounded, orthogonalized(x))


def model(**changes):
    flows = {
        name: dataclasses.replace(getattr(TINY.model, name), **changes)
        for name in ("flow", "dequantizer")
    }
    return build_model(dataclasses.replace(TINY.model, **flows), (1, 8, 8), 17)


@pytest.mark.parametrize(
    "changes", [{}, {"weight_norm": True}, {"attention": "maxout"}], ids=["plain", "wn", "maxout"]
)
def test_kernels_are_those_of_convolutions_inside_blocks(changes):
    built = model(**changes)
    kernels = block_kernels(built)
    inside = {n for n, p in built.named_parameters() if ".blocks." in n and p.ndim == 4}
    assert set(kernels) == inside
    assert any("dequantizer" in name for name in kernels)
    assert any(".conv_context." in name for name in kernels)
    joint = {name for name in kernels if ".attention.proj_in." in name}
    assert joint
    parts = 1 if changes.get("attention") == "maxout" else 3
    assert kernels == {name: parts if name in joint else 1 for name in kernels}


def test_kernels_of_first_convolutions_are_those_of_every_network():
    built = model()
    kernels = input_kernels(built)
    first = {n for n, p in built.named_parameters() if n.endswith("proj_in.weight")}
    assert kernels == dict.fromkeys(first - set(block_kernels(built)), 1)
    assert "dequantizer.context_network.proj_in.weight" in kernels


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("muon", block_kernels),
        ("muon-inputs", lambda built: block_kernels(built) | input_kernels(built)),
    ],
)
def test_settings_choose_the_kernels(kind, chosen):
    built = model()
    optimizer = make_optimizer(built, TrainingConfig(optimizer=kind))
    orthogonalized = {n for n, p in built.named_parameters() if "v" not in optimizer.state_keys(p)}
    assert orthogonalized == set(chosen(built))


def test_the_device_skips_a_step_or_does_it():
    """A finite step is the same with the flag but for rounding, a skipped one changes nothing."""
    plain, flagged = drawn(torch.float32), drawn(torch.float32)
    optimizers = Muon(plain.items(), 0.0, PARTS), Muon(flagged.items(), 0.0, PARTS)
    skip = optimizers[1].skip_if = torch.zeros(())
    for step, rate in enumerate(RATES):
        take_steps(optimizers[0], plain, [rate], first_seed=step)
        take_steps(optimizers[1], flagged, [rate], first_seed=step)
        if step == 1:
            skip.fill_(1)
            named = NamedState(optimizers[1])
            before = {name: tensor.clone() for name, tensor in flagged.items()}
            settings = dict(optimizers[1].param_groups[0])
            averages = {name: tensor.clone() for name, tensor in named.state_dict()["m"].items()}
            take_steps(optimizers[1], flagged, [rate], prepare=lambda g: g * math.nan)
            optimizers[1].param_groups[0].update(settings)  # the powers are the host's
            skip.fill_(0)
            assert all(torch.equal(tensor, before[name]) for name, tensor in flagged.items())
            after = named.state_dict()["m"]
            assert all(torch.equal(after[name], tensor) for name, tensor in averages.items())
    for name, tensor in plain.items():
        torch.testing.assert_close(flagged[name], tensor, rtol=0, atol=1e-5)


def test_state_survives_a_round_trip_through_json():
    one, other = drawn(), drawn()
    first, second = (Muon(named.items(), 0.0, PARTS) for named in (one, other))
    take_steps(first, one)
    state = NamedState(first).state_dict()
    assert set(state["m"]) == set(one) and set(state["v"]) == {"bias"}
    stored = {
        key: {name: tensor.clone() for name, tensor in value.items()}
        if isinstance(value, dict)
        else json.loads(json.dumps(value))
        for key, value in state.items()
    }
    for name, tensor in one.items():
        other[name].copy_(tensor)
    NamedState(second).load_state_dict(stored)
    take_steps(first, one, first_seed=7)
    take_steps(second, other, first_seed=7)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m, v: m.pop("bias"), "of bias must have m, v, got v"),
        (lambda m, v: v.pop("bias"), "of bias must have m, v, got m"),
        (lambda m, v: v.update(wide=m["wide"]), "of wide must have m, got m, v"),
        (lambda m, v: v.update(wide=m.pop("wide")), "of wide must have m, got v"),
        (lambda m, v: m.update(wide=m["square"]), "wide"),
        (lambda m, v: m.update(unknown=m["wide"]), "unknown"),
    ],
)
def test_damaged_state_is_refused(damage, message):
    named = drawn()
    optimizer = Muon(named.items(), 0.0, PARTS)
    take_steps(optimizer, named)
    state = NamedState(optimizer).state_dict()
    damage(state["m"], state["v"])
    with pytest.raises(CheckpointError, match=message):
        NamedState(optimizer).load_state_dict(state)


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ({"absent": 1, "wide": 1}, "must be parameters, got absent$"),
        ({"bias": 1}, r"must be matrices .*, got bias of shape \(5,\)"),
        ({"wide": 3}, r"a multiple of 3 rows, got wide of shape \(4, 3, 3, 3\)"),
        ({"wide": 0}, "at least 1 part, got 0"),
    ],
)
def test_kernels_that_cannot_be_updated_are_refused(kernels, message):
    with pytest.raises(ValueError, match=message):
        Muon(drawn().items(), 1e-3, kernels)


def test_the_setting_names_the_optimizer():
    with pytest.raises(ValueError, match=r"training\.optimizer must be .*muon.*, got 'sgd'"):
        TrainingConfig(optimizer="sgd")
    built = model()
    kinds = {name: type(make_optimizer(built, TrainingConfig(optimizer=name))) for name in KINDS}
    assert kinds == KINDS


KINDS = {"adam": Adam, "muon": Muon, "muon-inputs": Muon}


def test_gradients_may_lie_in_the_buckets_that_processes_exchange(tmp_path):
    alone, joint = model(dropout=0.0), model(dropout=0.0)
    joint.load_state_dict(alone.state_dict())
    x, noise = torch.randint(17, (4, 1, 8, 8)).float(), torch.randn(4, 1, 8, 8)
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        for built, wrapped in ((alone, alone), (joint, averaging_gradients(joint))):
            optimizer = make_optimizer(built, TrainingConfig(optimizer="muon"))
            for _ in range(2):
                optimizer.zero_grad()
                wrapped(x, noise).total.mean().backward()
                optimizer.step()
    finally:
        distributed.destroy_process_group()
    weights = joint.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in alone.state_dict().items())


def config(steps, **changes):
    changes = {"optimizer": "muon", "steps": steps, **changes}
    training = dataclasses.replace(TINY.training, **changes)
    return dataclasses.replace(TINY, training=training)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(config(3, accumulate=2), out)
    return out


def test_a_run_resumes_bit_for_bit(run, tmp_path):
    train(config(2, accumulate=2, memory="low"), tmp_path / "parts")
    train(config(3, accumulate=2), tmp_path / "parts", resume=True)
    assert same_state(run, tmp_path / "parts")


def test_a_run_resumes_with_its_own_optimizer_alone(run):
    with pytest.raises(CheckpointError, match=r"with flowpp\.Muon, training uses flowpp\.Adam"):
        train(config(4, accumulate=2, optimizer="adam"), run, resume=True)
    with pytest.raises(CheckpointError, match=r"proj_in\.weight must have m, got m, v"):
        train(config(4, accumulate=2, optimizer="muon-inputs"), run, resume=True)
