"""Devices of several processes, and errors of a GPU; CUDA calls are replaced."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from flowpp import train as train_command
from flowpp.config.presets import PRESETS
from flowpp.runtime.device import choose_device
from flowpp.runtime.distributed import process_group
from flowpp.training import held_out
from flowpp.training.loop import train


@pytest.fixture
def machine(monkeypatch):
    """Process 1 of 2 on a machine; sets its number of GPUs and records what is called."""
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    calls = []
    monkeypatch.setattr(
        distributed,
        "init_process_group",
        lambda name, device_id=None, **_: calls.append((name, device_id)),
    )
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)

    def with_gpus(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        return calls

    return with_gpus


def test_processes_on_the_cpu_leave_the_gpu_alone(machine):
    calls = machine(1)
    with process_group("cpu") as group:
        assert (group.rank, group.size) == (1, 2)
    assert calls == [("gloo", None)]


def test_each_process_takes_a_gpu_of_its_own(machine):
    calls = machine(2)
    with process_group("cuda"):
        pass
    gpu = torch.device("cuda", 1)
    assert calls == [gpu, ("cpu:gloo,cuda:nccl", gpu)]


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cuda", 1, "at most its 1 GPUs, got 2"),
        ("cuda", 0, "at most its 0 GPUs, got 2"),
        ("cuda:0", 2, "device must be cuda for several processes, got cuda:0"),
    ],
)
def test_processes_without_a_gpu_each_are_refused(machine, device, gpus, message):
    machine(gpus)
    with pytest.raises(ValueError, match=message), process_group(device):
        pass


def test_the_command_refuses_in_one_line(machine, capsys):
    machine(1)
    with pytest.raises(SystemExit) as exit_:
        train_command.main(["digits", "--training.device", "cuda"])
    assert exit_.value.code == 2
    assert "at most its 1 GPUs, got 2" in capsys.readouterr().err


def raising(error):
    def sample(*args, **kwargs):
        raise error

    return sample


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_errors_of_a_gpu_are_not_taken_for_a_failed_inverse(
    tiny_config, tmp_path, monkeypatch, error
):
    monkeypatch.setattr(held_out, "training_panel", raising(error))
    with pytest.raises(type(error), match="CUDA"):
        train(tiny_config, tmp_path / "run")


def test_the_command_says_how_to_need_less_memory(tmp_path, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")
    monkeypatch.setattr("flowpp.training.loop.train", raising(error))
    with pytest.raises(SystemExit, match="2.00 GiB.; needs less memory: --training.memory low"):
        train_command.main(["digits", "--training.steps", "1", "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_if_there_is_one(monkeypatch, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device("auto") == expected
    assert choose_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_a_gpu_if_there_is_one(name):
    assert PRESETS[name].training.device == "auto"
