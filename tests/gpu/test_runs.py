"""Runs on each device: resumption bit for bit, commands, and runs of one device on the other."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import flowpp
from flowpp import convert, evaluate, interpolate, reconstruct, sample
from flowpp import train as train_command
from flowpp.benchmark import __main__ as benchmark
from flowpp.data import load as load_data
from flowpp.evaluation.bound import evaluate_bound
from flowpp.kernels.layers import dropout
from flowpp.kernels.visibility import is_observed
from flowpp.runs.open_model import open_model
from flowpp.runs.run import Run
from flowpp.runtime.random_state import seed_all, seeded_generator, set_torch_state, torch_state
from flowpp.runtime.signals import TrainingInterrupted
from flowpp.training.loop import Trainer, train
from tiny import TINY

STEPS = 5
LAYERS = ("layers", "attention", "convolution")
"""Sources of the kernels that compute layers."""
BITS_PER_DIM = 2e-5
"""Largest difference of bits per dimension between devices: the log-determinants' 48 ulps."""


def config(device, *, dropout=0.2, **settings):
    """Settings of a deterministic run with a checkpoint after each step."""
    flows = {
        name: dataclasses.replace(getattr(TINY.model, name), dropout=dropout)
        for name in ("flow", "dequantizer")
    }
    training = dataclasses.replace(
        TINY.training, steps=STEPS, evaluate_every=3, checkpoint_every=1, log_every=2,
        deterministic=True, device=device, compile="none", cuda_graph="off",
    )  # fmt: skip
    return dataclasses.replace(
        TINY,
        model=dataclasses.replace(TINY.model, **flows),
        training=dataclasses.replace(training, **settings),
    )


@pytest.fixture(scope="module")
def run(device, tmp_path_factory):
    """A finished run on the device; read-only."""
    out = tmp_path_factory.mktemp(device) / "run"
    train(config(device), out)
    return out


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture(scope="module")
def images():
    return load_data(TINY.data)


def assert_same(one, other):
    """Assert that the newest checkpoints have the same bits."""
    a, b = (Run.open(path).load_checkpoint() for path in (one, other))
    assert a.step == b.step
    for kind in ("weights", "ema", "state"):
        left, right = getattr(a, kind), getattr(b, kind)
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            assert torch.equal(tensor, right[name]), f"{kind} {name}"


def other_than(device):
    """Return the CPU for a CUDA device, and a CUDA device for the CPU, if there is one."""
    if device == "cuda":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else pytest.skip("needs two kinds of devices")


def test_a_run_says_where_it_was_computed(run, device):
    described = json.loads((run / "environment.json").read_text())
    assert described["device"].split(":")[0] == device
    # The emulated device is a dispatch mode, which must see the operations of the CPU's layers.
    seen = device == "cpu" and is_observed()
    assert described["kernels"] == (f"cpu, but torch for {', '.join(LAYERS)}" if seen else device)
    assert described["precision"] == "float32"
    if device == "cuda":
        assert described["tf32"] == {"matmul": False, "convolution": False}


def test_another_run_has_the_same_bits(run, device, tmp_path):
    train(config(device), tmp_path / "again")
    assert_same(run, tmp_path / "again")


@pytest.mark.parametrize("step", [1, 3])
def test_an_interrupted_run_resumes_bit_for_bit(run, device, tmp_path, monkeypatch, step):
    do_step = Trainer.step

    def interrupted(trainer):
        if trainer.state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        do_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(TrainingInterrupted):
            train(config(device), tmp_path / "run")
    assert Run.open(tmp_path / "run").load_checkpoint().step == step
    torch.rand(3, device=device)  # the process's random state must not matter
    train(config(device), tmp_path / "run", resume=True)
    assert_same(run, tmp_path / "run")


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bfloat16"}, {"optimizer": "muon"}], ids=str
)
def test_a_run_in_a_graph_has_the_same_bits(tmp_path, settings):
    """Graphs replay the same kernels; they begin with the fourth step of each process."""
    settings = {"steps": 7, **settings}
    train(config("cuda", **settings), tmp_path / "plain")
    train(config("cuda", cuda_graph="on", **settings), tmp_path / "graph")
    assert_same(tmp_path / "plain", tmp_path / "graph")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.hardware
def test_compiled_blocks_have_the_losses_of_plain_ones(tmp_path):
    losses = []
    for name, settings in {
        "plain": {},
        "compiled": {"compile": "blocks"},
        "all": {"compile": "blocks", "cuda_graph": "on"},
    }.items():
        train(config("cuda", dropout=0.0, **settings), tmp_path / name)
        records = Run.open(tmp_path / name).metrics()
        losses.append([r["bits_per_dim"] for r in records if "bits_per_dim" in r])
    for compiled in losses[1:]:
        np.testing.assert_allclose(compiled, losses[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.hardware
def test_a_killed_process_resumes_bit_for_bit(run, device, tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "flowpp.train", "digits", "--out", str(out),
        "--training.device", device, "--training.deterministic", "True",
        "--training.steps", "60", "--training.checkpoint-every", "1",
        "--training.compile", "none",
    ]  # fmt: skip
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    started = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (out.is_dir() and len(list(out.glob("checkpoints/*"))) > 1):
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    subprocess.run([sys.executable, "-m", "flowpp.train", "--resume", str(out)], check=True,
                   env=environment)  # fmt: skip
    again = tmp_path / "uninterrupted"
    command[command.index(str(out))] = str(again)
    subprocess.run(command, check=True, env=environment)
    assert_same(out, again)


def test_random_states_are_restored(device):
    """Dropout continues as if nothing had happened."""
    seed_all(3)
    x = torch.ones(2, 4, 8, 8, device=device)
    dropout(x, 0.5, training=True)
    states = torch_state(x.device)
    assert ("cuda" in states) == (device == "cuda")
    expected = [dropout(x, 0.5, training=True) for _ in range(2)]
    assert not torch.equal(*expected)
    seed_all(4)
    assert not torch.equal(dropout(x, 0.5, training=True), expected[0])
    set_torch_state({name: state.cpu().clone() for name, state in states.items()}, x.device)
    for mask in expected:
        assert torch.equal(dropout(x, 0.5, training=True), mask)


def test_a_run_continues_on_the_other_device(copy, device, capsys):
    """Bits differ from then on, and the command says so."""
    other = other_than(device)
    train(config(other, steps=STEPS + 2), copy, resume=True)
    resumed = Run.open(copy).load_checkpoint()
    assert resumed.step == STEPS + 2
    assert all(t.isfinite().all() for t in resumed.weights.values() if t.is_floating_point())
    assert "bit-identical" in capsys.readouterr().out


def test_a_trained_model_has_the_same_bound_on_both_devices(run, device, images):
    bounds = [
        evaluate_bound(open_model(run, device=place).model, images.test[:32], seeded_generator(0))[
            "bits_per_dim"
        ].mean
        for place in (device, other_than(device))
    ]
    assert abs(bounds[0] - bounds[1]) <= BITS_PER_DIM


def test_a_trained_model_has_the_bound_of_float64_on_the_cpu(run, device, images):
    model = open_model(run, device=device).model
    assert next(model.parameters()).device.type == device
    got = evaluate_bound(model, images.test[:32], seeded_generator(0))
    wide = open_model(run, device="cpu").model.double()
    expected = evaluate_bound(wide, images.test[:32], seeded_generator(0))
    # The noise is drawn in the model's dtype, from another stream of numbers: compare all images'
    # means only where the noise is the same.
    noise = wide.dequantizer.draw_noise((32, 1, 8, 8), generator=seeded_generator(0))
    x = torch.from_numpy(images.test[:32]).float()
    with torch.no_grad():
        one = model.elbo(x.to(device), noise.float().to(device)).total.cpu().double()
        other = wide.elbo(x.double(), noise.float().double()).total
    assert ((one - other).abs() / (64 * np.log(2))).max() <= BITS_PER_DIM
    assert got.keys() == expected.keys()


def test_the_python_interface(run, device, images):
    model = flowpp.load(run, device=device)
    test = images.test[:8]
    z = model.encode(test)
    assert isinstance(z, np.ndarray) and np.array_equal(model.decode(z), test)
    drawn = model.sample(4, seed=1)
    assert drawn.shape == (4, 1, 8, 8) and np.array_equal(drawn, model.sample(4, seed=1))
    expected = flowpp.load(run, device="cpu").log_prob(test, seed=3)
    got = model.log_prob(test, seed=3)
    assert np.abs(got - expected).max() / (64 * np.log(2)) <= BITS_PER_DIM


def test_evaluate_command(copy, device, capsys):
    evaluate.main([str(copy), "--device", device, "--images", "6", "--importance-samples", "3"])
    printed = capsys.readouterr().out
    assert "bits/dim" in printed
    (written,) = (copy / "evaluations").glob("*.json")
    assert json.loads(written.read_text())["environment"]["device"].split(":")[0] == device


def test_fingerprint_is_close_to_float64_on_the_cpu(copy, device):
    evaluate.main([str(copy), "--fingerprint", "--device", device, "--images", "4"])
    (written,) = (copy / "fingerprints").glob("*.json")
    found = json.loads(written.read_text())
    assert found["device"].split(":")[0] == device and found["dtype"] == "float32"
    assert found["bits_per_dim"]["largest_difference"] <= BITS_PER_DIM
    for row in found["layers"]:
        assert row["log_det"] <= 1e-4 and row["output"] <= 1e-4, row


@pytest.mark.parametrize("main", [sample.main, reconstruct.main, interpolate.main])
def test_commands_that_write_images(copy, device, tmp_path, main):
    out = tmp_path / "grid.png"
    main([str(copy), "--device", device, "--out", str(out)])
    with np.load(out.with_suffix(".npz"), allow_pickle=False) as written:
        pixels = written["images"]
        assert pixels.dtype == np.uint8 and pixels.max() <= 16
        if "reconstructed" in written:
            assert np.array_equal(pixels, written["reconstructed"])


def test_a_converted_model(copy, device, tmp_path, images):
    out = tmp_path / "model.safetensors"
    convert.main([str(copy), "--out", str(out)])
    got = flowpp.load(out, device=device).log_prob(images.test[:4])
    assert np.array_equal(got, flowpp.load(copy, device=device).log_prob(images.test[:4]))


def test_train_command(device, tmp_path, capsys):
    flags = [
        f"--model.{flow}.{setting}"
        for flow in ("flow", "dequantizer")
        for setting in ("layout=columns 1", "filters=4", "blocks=1", "components=2")
    ]
    out = tmp_path / "run"
    flags += ["--training.device", device, "--training.compile", "none"]
    command = ["digits", *flags, "--out", str(out)]
    train_command.main([*command, "--training.steps", "2", "--training.precision", "bfloat16"])
    assert f"on {device}" in capsys.readouterr().out
    assert Run.open(out).load_checkpoint().step == 2


@pytest.mark.hardware
@pytest.mark.gpu
def test_out_of_memory_is_one_line(tmp_path):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        with pytest.raises(
            SystemExit, match="out of memory.*needs less memory: --training.memory"
        ):
            train_command.main(
                ["digits", "--training.device", "cuda", "--training.batch-size", "1024",
                 "--training.init-batch-size", "1024", "--out", str(tmp_path / "run")]
            )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.hardware
@pytest.mark.gpu
def test_benchmark_command(capsys):
    benchmark.main(
        ["--preset", "digits", "--device", "cuda", "--repeats", "1", "--warm-up", "1",
         "--elements", "1000"]
    )  # fmt: skip
    assert "mixture" in capsys.readouterr().out
