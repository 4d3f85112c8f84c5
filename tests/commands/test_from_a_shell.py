"""Training in its own process: signals, a full disk, and torchrun."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
import time

import pytest

from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.run import Run

TINY = """
--model.flow.layout "checkerboard 1" --model.flow.filters 4 --model.flow.blocks 1
--model.flow.components 2 --model.dequantization uniform --training.batch_size 8
--training.init_batch_size 16 --training.sample_count 4 --training.threads 1
--training.checkpoint_every 1 --training.evaluate_every 100000
"""
TRAIN = [sys.executable, "-m", "flowpp.train"]


def start(*arguments, launcher=TRAIN, **options):
    return subprocess.Popen(
        [*launcher, *map(str, arguments), *shlex.split(TINY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_checkpoints(process, out, count):
    for _ in range(3000):
        if len(Run(out).checkpoint_files()) >= count or process.poll() is not None:
            return
        time.sleep(0.02)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_stops_a_process_cleanly(tmp_path, number):
    out = tmp_path / "run"
    process = start("digits", "--training.steps", 100_000, "--out", out)
    wait_for_checkpoints(process, out, 2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number and errors == ""
    assert output.splitlines()[-1] == (
        f"stopped by {number.name}; to resume:  python -m flowpp.train --resume {out}"
    )
    assert not list(out.rglob("*.part"))
    step = Run.open(out).load_checkpoint().step
    done = subprocess.run(
        [*TRAIN, "--resume", str(out), "--training.steps", str(step + 1)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"resumed after step {step}" in done.stdout


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line(tmp_path):
    """Limit the file size to less than a checkpoint with Adam's moments."""
    import torch

    out = tmp_path / "run"
    whole = start("digits", "--training.steps", 1, "--out", tmp_path / "whole")
    assert whole.communicate(timeout=120)[1] == ""
    small, large = (p.stat().st_size for p in Run(tmp_path / "whole").checkpoint_files())
    limit = (small + large) // 2
    process = start(
        "digits", "--training.steps", 3, "--out", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "step-00000001.safetensors could not be written" in errors
    assert f"python -m flowpp.train --resume {out}" in errors and "Traceback" not in errors
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-00000000.safetensors"]
    weights = [
        Checkpoint.load(Run(tmp_path / name).checkpoint_path(0)).weights
        for name in ("whole", "run")
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    process = start("digits", "--training.steps", 1, "--out", tmp_path / "run")
    _, errors = process.communicate(timeout=120)
    tmp_path.chmod(0o700)
    assert process.returncode == 2 and f"{tmp_path} is not writable" in errors
    assert "Traceback" not in errors


def test_torchrun_trains_and_stops_cleanly(tmp_path):
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
                "--standalone", "-m", "flowpp.train"]  # fmt: skip
    process = start("digits", "--training.steps", 100_000, "--out", out, launcher=launcher)
    wait_for_checkpoints(process, out, 2)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert "stopped by SIGTERM; to resume:" in output, output + errors
    assert output.count("training images of shape") == 1
    assert Checkpoint.load(Run(out).checkpoint_files()[-1]).facts["processes"] == 2
