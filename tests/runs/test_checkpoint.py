"""Checkpoints: round trips, and errors for damaged files."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from flowpp.bijectors import ActNorm
from flowpp.dequantization import UniformDequantizer
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import (
    FORMAT,
    UNHASHED,
    Checkpoint,
    CheckpointError,
    check_shapes,
    copy_into,
)
from flowpp.runtime import files
from flowpp.training.ema import EMA

DAMAGED = r"^checkpoint .*c.safetensors is truncated or damaged \("


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
    message = r"^checkpoint .*step-7.safetensors is truncated or damaged \((?!None)."
    with pytest.raises(ValueError, match=message):
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


def full():
    """Return a checkpoint with all four groups."""
    weights = {"a": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    state = {"moment": torch.tensor([0.5])}
    return Checkpoint(7, weights, {"a": torch.tensor([1.5, 2.5])}, state, {"levels": 256})


def rewritten(path, **changes):
    """Write a file again with other metadata; None leaves an entry out."""
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    kept = {name: text for name, text in metadata.items() if text is not None}
    save_file(tensors, path, kept)
    return tensors


@pytest.fixture
def path(tmp_path):
    full().save(tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


def test_all_groups_are_read_as_they_were_written(path):
    loaded, expected = Checkpoint.load(path), full()
    assert loaded.step == 7 and loaded.facts == {"levels": 256}
    for name in ("weights", "ema", "state"):
        found, tensors = getattr(loaded, name), getattr(expected, name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
    assert Checkpoint(1, {}, {}).state == Checkpoint(1, {}, {}).facts == {}


def test_the_format_of_the_file(path):
    """The hash is that of earlier versions, whose files are read too."""
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert names == {"weights/a", "weights/count", "ema/a", "state/moment"}
    sha256 = metadata.pop("sha256")
    assert metadata == {"format": FORMAT, "step": "7", "facts": '{"levels": 256}'}
    assert sha256 == "6e64a95e53bb533f7c2a91a5207d490db6cc3ed828310ad40bb832365d01cd0e"


@pytest.mark.parametrize(
    "change",
    [{"step": "8"}, {"facts": "{}"}, {"facts": None}, {"sha256": None}, {"sha256": "0" * 64}],
)
def test_a_file_that_does_not_have_its_hash_is_refused(path, change):
    rewritten(path, **change)
    with pytest.raises(CheckpointError, match=DAMAGED + "its hash does not match.$"):
        Checkpoint.load(path)


def test_files_without_a_hash_are_read(path):
    rewritten(path, format=UNHASHED, sha256=None, facts=None, step="0")
    loaded = Checkpoint.load(path)
    assert loaded.step == 0 and loaded.facts == {} and set(loaded.weights) == {"a", "count"}
    rewritten(path, step="007")
    assert Checkpoint.load(path).step == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": None}, "c.safetensors is damaged: step must be a whole number, got ''$"),
        (
            {"step": "9" * 101},
            DAMAGED + "an integer must have at most 100 digits, got",
        ),
        ({"facts": "{"}, DAMAGED + "Expecting property name"),
        ({"facts": "[1]"}, DAMAGED + "its facts must be an object, got list.$"),
        ({"format": "other"}, f"not a checkpoint: format must be '{FORMAT}', got 'other'$"),
    ],
)
def test_texts_that_no_version_writes_are_refused(path, change, message):
    rewritten(path, **{"format": UNHASHED, **change})
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(path)


def test_a_file_of_too_many_tensors_is_refused(path, monkeypatch):
    monkeypatch.setattr("flowpp.runtime.safetensors_header.MOST_TENSORS", 3)
    message = "^checkpoint .*c.safetensors must have at most 3 tensors, got 4$"
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(path)


def test_facts_that_json_does_not_have_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Checkpoint(1, {}, {}, facts={"loss": float("nan")}).save(tmp_path / "a.safetensors")
    assert not os.listdir(tmp_path)


def test_a_file_that_cannot_be_written_or_read(tmp_path):
    missing = tmp_path / "none" / "a.safetensors"
    with pytest.raises(
        OSError, match="^checkpoint .*a.safetensors could not be written ."
    ) as error:
        full().save(missing)
    assert error.value.__cause__ is not None
    with pytest.raises(
        CheckpointError, match="^checkpoint .* must be a regular file, got a folder"
    ):
        Checkpoint.load(tmp_path)
    with pytest.raises(OSError, match="^checkpoint .*c.safetensors cannot be read .") as error:
        (tmp_path / "file").write_text("")
        Checkpoint.load(tmp_path / "file" / "c.safetensors")


@pytest.mark.parametrize(
    ("group", "what"),
    [("weights", "weights"), ("ema", "averaged weights"), ("state", "training state")],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(group, what, value):
    checkpoint = full()
    checkpoint.check_finite()
    getattr(checkpoint, group)["b"] = torch.tensor([0.0, value])
    message = f"^{what} must be finite, got NaN or infinity in b at step 7$"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.check_finite()


def test_weights_that_are_not_finite_are_not_restored(saved):
    checkpoint, model = Checkpoint.load(saved[0]), Small()
    before = model.layer.bias.clone()
    checkpoint.ema["layer.bias"][0] = float("nan")
    with pytest.raises(CheckpointError, match="^weights must be finite, got .* in layer.bias at"):
        checkpoint.restore(model, average=True)
    assert torch.equal(model.layer.bias, before)
    checkpoint.restore(model, average=False)


def test_a_restored_flow_is_initialized():
    def flow():
        return FlowPlusPlus(UniformDequantizer(8), ActNorm.create(1))

    trained, fresh = flow(), flow()
    Checkpoint(1, trained.state_dict(), {}).restore(fresh, average=True)
    assert fresh.initialized and not trained.initialized


def test_tensors_of_another_kind_are_refused_and_nothing_is_copied():
    target = {"a": torch.zeros(2), "n": torch.zeros(2, dtype=torch.long)}
    real = {"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.ones(2, dtype=torch.long)}
    copy_into(target, real)
    assert target["a"].tolist() == [1, 1] and target["a"].dtype == torch.float32
    for name, dtype in (("n", torch.float32), ("n", torch.int32), ("a", torch.long)):
        changed = {**{key: 2 * t for key, t in real.items()}, name: torch.ones(2, dtype=dtype)}
        message = f"another model: {name} must have dtype {target[name].dtype}, got {dtype}$"
        with pytest.raises(CheckpointError, match=message):
            copy_into(target, changed)
    assert target["a"].tolist() == target["n"].tolist() == [1, 1]
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        check_shapes(target, {**real, "a": torch.ones(2, dtype=dtype)})


def test_missing_and_surplus_tensors_are_named():
    target, one = {name: torch.zeros(2) for name in "cab"}, torch.zeros(2)
    message = "^checkpoint belongs to another model: missing "
    with pytest.raises(CheckpointError, match=message + r"b \(2 in all\), surplus none$"):
        check_shapes(target, {"a": one})
    with pytest.raises(CheckpointError, match=message + r"none, surplus d \(1 in all\)$"):
        check_shapes(target, {**target, "d": one})
    shape = "^checkpoint belongs to another model: a must have shape"
    with pytest.raises(CheckpointError, match=shape + r" \(2,\), got \(3,\)$"):
        check_shapes(target, {**target, "a": torch.zeros(3)})
