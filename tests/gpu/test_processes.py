"""Several processes over NCCL on GPUs, and over Gloo on the CPU."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from flowpp.config import presets
from flowpp.config.build import build_model
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.training.gradients import accumulate_gradients, averaging_gradients
from flowpp.training.initialization import initialize

DRIVER = Path(__file__).parents[1] / "helpers" / "two_processes.py"
TOLERANCE = 1e-5
"""Relative bound on losses, as for one process and two on the CPU."""


def torchrun(device, processes, *runs):
    """Train runs (out, steps, dropout, new or resume) one after another."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", str(DRIVER)),
            *map(str, itertools.chain(*runs)),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TRAINING_DEVICE": device,
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def losses(path):
    """Return training losses and held-out bits per dimension, by step."""
    records = Run.open(path).metrics()
    return [r[HELD_OUT] if HELD_OUT in r else r["bits_per_dim"] for r in records]


def assert_same(one, other):
    a, b = (Run.open(path).load_checkpoint() for path in (one, other))
    for kind in ("weights", "ema", "state"):
        for name, tensor in getattr(a, kind).items():
            assert torch.equal(tensor, getattr(b, kind)[name]), name


@pytest.mark.gpu
@pytest.mark.hardware
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_have_the_losses_of_two_processes_on_the_cpu(tmp_path):
    for device in ("cpu", "cuda"):
        torchrun(device, 2, (tmp_path / device, 6, 0.0, "new"))
    np.testing.assert_allclose(
        losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), rtol=20 * TOLERANCE
    )


@pytest.mark.gpu
@pytest.mark.hardware
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_resume_bit_for_bit(tmp_path):
    runs = [
        (tmp_path / "whole", 6, 0.2, "new"),
        (tmp_path / "parts", 4, 0.2, "new"),
        (tmp_path / "parts", 6, 0.2, "resume"),
    ]
    torchrun("cuda", 2, *runs)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    state = Run.open(tmp_path / "whole").load_checkpoint().state
    for name in ("random/torch", "random/cuda", "random/noise"):
        assert not torch.equal(*state[name])


@pytest.mark.slow
@pytest.mark.hardware
def test_one_process_of_torchrun_resumes_bit_for_bit(device, tmp_path):
    runs = [
        (tmp_path / "whole", 3, 0.2, "new"),
        (tmp_path / "parts", 2, 0.2, "new"),
        (tmp_path / "parts", 3, 0.2, "resume"),
    ]
    torchrun(device, 1, *runs)
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.fixture
def group_of_one(device):
    """Join a group of one process, with NCCL for a CUDA device."""
    cuda = device == "cuda"
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=distributed.HashStore(),
        rank=0,
        world_size=1,
        device_id=torch.device("cuda", torch.cuda.current_device()) if cuda else None,
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.hardware
def test_a_group_of_one_has_the_gradients_of_no_group(device, group_of_one):
    """Gradients through the wrapper for several processes, accumulated over parts."""
    x = torch.randint(17, (8, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    model = build_model(
        presets.get("digits").model, (1, 8, 8), 17, torch.Generator().manual_seed(0)
    ).to(device)
    x, noise = x.to(device), noise.to(device)
    initialize(model.eval(), x, noise)

    def results(model, parameters):
        for _ in range(2):  # buckets are rebuilt after the first step
            for p in parameters:
                p.grad = None
            loss = accumulate_gradients(model, x, noise, 2)
        return loss.item(), [p.grad.cpu().clone() for p in parameters]

    parameters = list(model.parameters())
    expected = results(model, parameters)
    got = results(averaging_gradients(model), parameters)
    assert got[0] == pytest.approx(expected[0], rel=TOLERANCE)
    for one, other in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())
    total = torch.full((), 3.0, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    assert total.item() == 3
    distributed.barrier()
