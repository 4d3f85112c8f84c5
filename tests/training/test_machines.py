"""Two torchrun agents on this machine, as on two machines without a shared disk."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowpp.runs.run import Run
from flowpp.runtime import distributed
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.loop import train
from flowpp.training.resume import ResumptionError
from flowpp.training.setup import prepare

TRAIN = (
    "digits --training.device cpu --training.threads 1 --training.batch_size 8 "
    "--training.init_batch_size 16 --training.evaluate_every 3 --training.evaluation_images 50 "
    "--training.sample_count 1 --model.flow.filters 8 --model.flow.blocks 1 "
    "--model.flow.components 2 --model.dequantizer.filters 8 --model.dequantizer.blocks 1 "
    "--model.dequantizer.components 2 --model.context.filters 4 --model.context.blocks 1"
).split() + ["--training.schedule", "warm-up 2"]
ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def torchrun(folders, per_machine, *arguments):
    """Run one agent in each folder; return their outputs and exit statuses."""
    port = free_port()
    agents = []
    for rank, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        agents.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run"),
                    *(f"--nnodes={len(folders)}", f"--node-rank={rank}"),
                    *(f"--nproc-per-node={per_machine}", "--rdzv-backend=c10d"),
                    *("--rdzv-id=test", f"--rdzv-endpoint=localhost:{port}"),
                    *("-m", "flowpp.train", *arguments),
                ],
                cwd=folder,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [agent.communicate(timeout=500)[0] for agent in agents]
    return outputs, [agent.returncode for agent in agents]


def weights(folder):
    return Run.open(folder / "run").load_checkpoint()


@pytest.mark.slow
def test_two_machines_train_as_one_and_only_the_first_has_the_run(tmp_path):
    both, one = [tmp_path / "first", tmp_path / "second"], [tmp_path / "one"]
    for steps, start in (("4", ["--out", "run"]), ("6", ["--resume", "run"])):
        outputs, statuses = torchrun(both, 1, *TRAIN, *start, "--training.steps", steps)
        assert statuses == [0, 0], outputs
        assert [output.count(f"step {steps}/{steps}") for output in outputs] == [1, 0]
        assert not list(both[1].iterdir())
    assert "resumed after step 4" in outputs[0]
    outputs, statuses = torchrun(one, 2, *TRAIN, "--out", "run", "--training.steps", "6")
    assert statuses == [0], outputs
    two, whole = weights(both[0]), weights(one[0])
    assert two.step == whole.step == 6
    for kind in ("weights", "ema", "state"):
        for name, tensor in getattr(two, kind).items():
            assert torch.equal(tensor, getattr(whole, kind)[name]), name


class First(ProcessGroup):
    """Rank 0 of two, whose broadcasts are recorded."""

    sent: list[object] = []

    def broadcast_object(self, value):
        self.sent.append(value)
        return value


class Second(ProcessGroup):
    """Rank 1 of two, which receives what `First` sent."""

    def broadcast_object(self, value):
        return First.sent.pop(0)


def test_errors_of_the_first_process_are_raised_in_all():
    def fail():
        raise ResumptionError("damaged")

    First.sent.clear()
    with pytest.raises(ResumptionError, match="damaged"):
        First(0, 2).from_main(fail)
    with pytest.raises(ResumptionError, match="damaged"):
        Second(1, 2).from_main(lambda: pytest.fail("only rank 0 computes"))
    assert First(0, 2).from_main(lambda: 3) == 3
    assert Second(1, 2).from_main(lambda: 4) == 3


def test_a_directory_in_use_ends_all_processes(tiny_config, tmp_path):
    prepared = prepare(tiny_config)
    run = Run.create(tmp_path / "run", tiny_config, {})
    First.sent[:] = [(None, BlockingIOError("another process is training"))]
    with pytest.raises(BlockingIOError, match="another process is training"):
        train(tiny_config, run.path, prepared, group=Second(1, 2))
    # Rank 0 finds it.
    First.sent.clear()
    with run.locked(), pytest.raises(BlockingIOError, match="another process is training"):
        train(tiny_config, run.path, prepared, resume=True, group=First(0, 2))


def test_tensors_of_all_kinds_are_broadcast(monkeypatch):
    tensors = {
        "float": torch.rand(2, 3).T,
        "bfloat16": torch.rand(4).bfloat16(),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "state": torch.get_rng_state(),
    }
    sent: list[torch.Tensor] = []
    First.sent.clear()
    monkeypatch.setattr(
        distributed.distributed, "broadcast", lambda t, src: sent.append(t.clone())
    )
    First(0, 2).broadcast_tensors(tensors)
    assert all(tensor.dtype == torch.uint8 for tensor in sent)
    monkeypatch.setattr(distributed.distributed, "broadcast", lambda t, src: t.copy_(sent.pop(0)))
    received = Second(1, 2).broadcast_tensors({})
    assert list(received) == list(tensors)
    for name, tensor in tensors.items():
        assert received[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(received[name].float(), tensor.float())


def test_images_of_another_machine_must_be_the_same(tiny_config):
    First.sent[:] = [("digits", "0" * 64)]
    with pytest.raises(ValueError, match="all machines must have the images of the first, digits"):
        prepare(tiny_config, Second(1, 2))
