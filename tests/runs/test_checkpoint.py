"""Checkpoints: round trips, and errors for damaged files."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from flowpp.runs.checkpoint import UNHASHED, Checkpoint
from flowpp.runtime import files
from flowpp.training.ema import EMA


class Small(nn.Module):
    """A model with parameters and a buffer."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        self.register_buffer("permutation", torch.arange(width))


@pytest.fixture
def saved(tmp_path):
    model = Small()
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.layer.weight.add_(1)
    path = tmp_path / "step-7.safetensors"
    Checkpoint(7, model.state_dict(), ema.state_dict()).save(path)
    return path, model, ema


def test_round_trip(saved):
    path, model, ema = saved
    checkpoint = Checkpoint.load(path)
    assert checkpoint.step == 7
    plain, averaged = Small(), Small()
    checkpoint.restore(plain, average=False)
    checkpoint.restore(averaged, average=True)
    assert torch.equal(plain.layer.weight, model.layer.weight)
    assert torch.equal(averaged.layer.weight, ema.average["layer.weight"])
    assert torch.equal(averaged.permutation, model.permutation)
    assert os.listdir(path.parent) == [path.name]  # the temporary file is gone


def test_tensors_that_share_memory_are_saved(tmp_path):
    values = torch.arange(6.0)
    weights = {"a": values[:4], "b": values[2:], "c": values.reshape(2, 3).T}
    Checkpoint(1, weights, {}).save(tmp_path / "c.safetensors")
    loaded = Checkpoint.load(tmp_path / "c.safetensors").weights
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_file_is_refused(saved, kept):
    path, _, _ = saved
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="truncated or damaged"):
        Checkpoint.load(path)


def test_foreign_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint: format must be .* got None"):
        Checkpoint.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("step", [{}, {"step": "last"}, {"step": "-1"}])
def test_a_checkpoint_without_a_step_is_refused(tmp_path, step):
    path = tmp_path / "a.safetensors"
    save_file({"weights/a": torch.zeros(1)}, path, {"format": UNHASHED, **step})
    with pytest.raises(ValueError, match="step must be a whole number, got"):
        Checkpoint.load(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        Checkpoint.load(tmp_path / "none.safetensors")


def test_checkpoint_of_another_shape_is_refused(saved):
    with pytest.raises(ValueError, match=r"layer.weight must have shape \(2, 5\), got \(2, 3\)"):
        Checkpoint.load(saved[0]).restore(Small(5), average=True)


def test_checkpoint_of_another_model_is_refused(saved):
    with pytest.raises(ValueError, match=r"missing 0.bias \(2 in all\), surplus layer.bias \(3"):
        Checkpoint.load(saved[0]).restore(nn.Sequential(nn.Linear(3, 2)), average=True)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="half way"), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert os.listdir(tmp_path) == ["a.json"] and "old" in path.read_text()
