"""Damaged or hostile checkpoints, settings and run directories: an error, or a valid result."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import flowpp
from corrupt import corrupt_bytes, corrupt_json, corrupt_values
from flowpp import train
from flowpp.config import Config, ContextConfig, FlowConfig, ModelConfig, TrainingConfig
from flowpp.config.build import build_model
from flowpp.config.serialization import to_dict
from flowpp.data import ImageSet, decode
from flowpp.evaluation.page_images import embedded_file
from flowpp.evaluation.run_report import read_json
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.environment import check_images
from flowpp.runs.run import Run
from flowpp.runtime.files import atomic_write

CONFIG = Config(
    preset="tiny",
    model=ModelConfig(
        flow=FlowConfig(layout="checkerboard 1", filters=4, blocks=1, components=2),
        dequantizer=FlowConfig(layout="columns 1", filters=4, blocks=1, components=2),
        context=ContextConfig(filters=4, blocks=1),
    ),
    training=TrainingConfig(steps=3),
)
FACTS = {"config": to_dict(CONFIG), "image_shape": [1, 8, 8], "levels": 17, "data_sha256": "0"}
IMAGES = np.zeros((1, 1, 8, 8), int)
IMAGE_SET = ImageSet("digits", *(IMAGES.astype(np.uint8),) * 2, levels=17)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(CONFIG.model, (1, 8, 8), 17)
    averages = {name: p.detach() for name, p in model.named_parameters()}
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", CONFIG, {"data": {"sha256": "0"}})
    run.save(Checkpoint(3, model.state_dict(), averages, {}, FACTS))
    run.append_record({"step": 1, "bits_per_dim": 5.0})
    run.append_record({"step": 2, "bits_per_dim": 4.0, "held_out_bits_per_dim": 4.5})
    return run


@pytest.fixture
def run(valid, tmp_path):
    return Run(shutil.copytree(valid.path, tmp_path / "run"))


def use(path):
    return flowpp.load(path).log_prob(IMAGES)


def test_a_valid_run_is_read(run, guard):
    with guard.reading():
        assert np.isfinite(use(run.path)).all() and len(run.metrics()) == 2
    assert guard.refused is None


@pytest.mark.parametrize("seed", range(36))
def test_checkpoints_with_damaged_bytes(run, valid, guard, seed):
    file = run.checkpoint_path(3)
    file.write_bytes(corrupt_bytes(file.read_bytes(), seed))
    before = use(valid.path)
    with guard.reading(file.name):
        assert use(run.path) == before  # the hash covers all but white space in the header
    assert guard.refused is not None or seed % 6 in (1, 2, 3)


@pytest.mark.parametrize("seed", range(30))
def test_checkpoints_with_invalid_facts(run, guard, seed, monkeypatch):
    """Their hash is valid, as an attacker can compute it too."""
    dumps = json.dumps  # the library's own checkpoints have no NaN among their facts
    monkeypatch.setattr(json, "dumps", lambda value, **_: dumps(value))
    whole, file = run.load_checkpoint(), run.path / "alone.safetensors"
    facts = corrupt_values(FACTS, seed)
    Checkpoint(whole.step, whole.weights, whole.ema, {}, facts).save(file)
    with guard.reading(file.name):
        use(file)


@pytest.mark.parametrize(
    "harm",
    [
        lambda t: t * float("nan"),
        lambda t: t / 0,
        lambda t: t.to(torch.int64),
        lambda t: t > 0,
        lambda t: t.to(torch.complex64),
        lambda t: t.to(torch.float8_e4m3fn),
        lambda t: t[..., None],
        lambda t: t.flatten()[:0],
    ],
)
@pytest.mark.parametrize("which", ["weights", "ema"])
def test_checkpoints_with_invalid_weights(run, guard, harm, which):
    whole, file = run.load_checkpoint(), run.checkpoint_path(4)
    groups = {"weights": dict(whole.weights), "ema": dict(whole.ema)}
    draw = random.Random(0)
    names = [n for n in whole.ema if whole.ema[n].abs().sum() > 0]
    for name in draw.sample(names, 3):
        groups[which][name] = harm(groups[which][name])
        if which == "weights":  # the average would be used instead
            groups["ema"].pop(name)
    Checkpoint(4, groups["weights"], groups["ema"], {}, FACTS).save(file)
    with guard.reading(str(run.path)):
        use(run.path)
    assert guard.refused is not None and "CheckpointError" in guard.refused


def header_of(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        header_of(b"{}", 1 << 62),
        header_of(b"{}", (1 << 64) - 1),
        header_of(b"[" * 100_000),
        header_of(b'{"weights/a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}'),
        header_of(
            b'{"weights/a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],'
            b'"data_offsets":[0,0]}}'
        ),
        header_of(b'{"weights/a":{"dtype":"F32","shape":[0],"data_offsets":[9,3]}}'),
        header_of(b'{"weights/a":{"dtype":"OBJECT","shape":[1],"data_offsets":[0,8]}}') + bytes(8),
        header_of(b'{"__metadata__":{"format":1}}'),
        header_of(
            b'{"__metadata__":{"format":"flowpp-checkpoint-1","step":"' + b"9" * 5000 + b'"}}'
        ),
        header_of(
            b'{"__metadata__":{"format":"flowpp-checkpoint-1","step":"1","facts":"'
            + b"[" * 100_000
            + b'"}}'
        ),
        b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.",
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_checkpoints_with_hostile_headers(run, guard, raw):
    file = run.checkpoint_path(4)
    file.write_bytes(raw)
    with guard.reading(file.name, str(run.path)):
        use(file)
    assert guard.refused is not None


@pytest.mark.parametrize("seed", range(48))
def test_invalid_settings(run, guard, seed):
    (run.path / "config.json").write_bytes(corrupt_json(to_dict(CONFIG), seed))
    with guard.reading("config.json", str(run.path)):
        use(run.path)
    with guard.reading("config.json"):
        train.read_arguments(["--resume", str(run.path)])


@pytest.mark.parametrize(
    "field",
    ["flow.filters", "flow.blocks", "flow.components", "flow.layout", "context.blocks"],
)
def test_settings_of_a_model_too_large_for_memory(run, guard, field):
    values = to_dict(CONFIG)
    part, name = field.split(".")
    values["model"][part][name] = "columns 100000000" if name == "layout" else 10**8
    (run.path / "config.json").write_text(json.dumps(values))
    with guard.reading(str(run.path)):
        use(run.path)
    assert guard.refused is not None and "another model" in guard.refused


def test_oversized_settings(run, guard):
    (run.path / "config.json").write_text(" " * (2 << 20) + "{}")
    with guard.reading("config.json"):
        run.config()
    assert "at most 1,048,576 bytes, got 2,097,154" in guard.refused


@pytest.mark.parametrize("seed", range(24))
def test_invalid_metrics_and_environments(run, guard, seed):
    record = {"step": 2, "bits_per_dim": 4.0, "held_out_bits_per_dim": 4.5}
    (run.path / "metrics.jsonl").write_bytes(corrupt_json(record, seed) + b"\n" + b'{"step": 3}\n')
    with guard.reading("metrics.jsonl"):
        records = run.metrics()
        assert all(isinstance(r["step"], int | float) for r in records)
    (run.path / "environment.json").write_bytes(
        corrupt_json({"data": {"sha256": IMAGE_SET.sha256}}, seed)
    )
    with guard.reading("environment.json", "trained on data"):
        check_images(run.path, IMAGE_SET, (1, 8, 8), 17)


@pytest.mark.parametrize("folder", ["checkpoints", "samples", "tensorboard", "evaluations"])
def test_folders_that_are_links(run, guard, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    if (run.path / folder).exists():
        shutil.rmtree(run.path / folder)
    (run.path / folder).symlink_to(outside)
    with guard.reading(folder):
        Run.open(run.path)
    assert "must not be a link" in guard.refused and not any(outside.iterdir())


@pytest.mark.parametrize("name", ["metrics.jsonl", ".lock"])
def test_files_that_are_links(run, guard, name, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious)
    with guard.reading(name):
        Run.open(run.path)
    assert guard.refused is not None and precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["config.json", "environment.json", "result.json"])
def test_files_that_are_renamed_replace_a_link(run, name, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious)
    part = run.path / f".{name}.{os.getpid()}.part"
    part.symlink_to(precious)
    with atomic_write(run.path / name) as temporary:
        temporary.write_text("new")
    assert precious.read_text() == "precious" and (run.path / name).read_text() == "new"


@pytest.mark.parametrize("target", ["nowhere", ".", "/dev/zero", "/proc/self/environ"])
def test_checkpoints_that_are_links(run, guard, target):
    run.checkpoint_path(4).symlink_to(target)
    with guard.reading(), pytest.warns(UserWarning, match=run.checkpoint_path(4).name):
        assert np.isfinite(use(run.path)).all()  # of the checkpoint before
    with guard.reading(run.checkpoint_path(4).name):
        use(run.checkpoint_path(4))
    assert guard.refused is not None


@pytest.mark.parametrize("kind", ["FIFO", "device", "sparse", "link to a FIFO"])
@pytest.mark.parametrize(
    "name",
    ["config.json", "environment.json", "result.json", "metrics.jsonl", "samples/step-1.png"],
)
def test_files_without_an_end(run, guard, name, kind, tmp_path):
    file = run.path / name
    file.unlink(missing_ok=True)
    if kind == "sparse":
        with open(file, "wb") as opened:
            opened.truncate(1 << 40)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        os.mkfifo(file if kind == "FIFO" else tmp_path / "fifo")
        if kind != "FIFO":
            file.symlink_to(tmp_path / "fifo")
    readers = {
        "config.json": run.config,
        "environment.json": lambda: check_images(run.path, IMAGE_SET, (1, 8, 8), 17),
        "result.json": lambda: run.facts("result.json"),
        "metrics.jsonl": run.metrics,
        "samples/step-1.png": lambda: decode.read_file(file),
    }
    with guard.reading(name):
        readers[name]()
    assert guard.refused is not None
    assert embedded_file(file) == "" and read_json(file) == {}


def test_a_tensor_file_of_another_program(run, guard):
    save_file({"a": torch.zeros(3)}, run.checkpoint_path(4))
    with guard.reading("step-00000004"), pytest.raises(CheckpointError, match="not a checkpoint"):
        use(run.checkpoint_path(4))
