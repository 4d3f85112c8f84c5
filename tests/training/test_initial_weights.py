"""Fine-tuning: runs that start from trained weights."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

import flowpp
from flowpp import train as train_command
from flowpp.config import DataConfig
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.open_model import open_model
from flowpp.runs.run import Run
from flowpp.runtime.hashing import weights_hash
from flowpp.training.initial_weights import InitialWeights
from flowpp.training.loop import train
from flowpp.training.setup import prepare


@pytest.fixture(scope="module")
def source(tiny_run):
    return tiny_run[0]


def changed(config, **training):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **training))


def largest_change(run, source):
    before = open_model(source).model.state_dict()
    after = Run.open(run).load_checkpoint().weights
    return max((after[name] - tensor).abs().max().item() for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["run", "file"])
def test_trained_weights_are_not_initialized_again(source, tiny_config, tmp_path, kind):
    given = source
    if kind == "file":
        newest = Run.open(source).checkpoint_files()[-1]
        given = shutil.copy(newest, tmp_path / "weights.safetensors")
    result = train(changed(tiny_config, learning_rate=1e-12), tmp_path / "run", init_from=given)
    assert largest_change(tmp_path / "run", source) < 1e-9
    before = json.loads((source / "result.json").read_text())
    assert result.bits_per_dim == pytest.approx(before["bits_per_dim"], abs=1e-5)
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())["init_from"]
    assert recorded == {
        "path": str(given),
        "sha256": weights_hash(open_model(source).model.state_dict()),
        "step": 3,
        "preset": tiny_config.preset,
    }


def test_a_prepared_model_with_trained_weights_is_not_initialized_again(
    source, tiny_config, tmp_path
):
    config = changed(tiny_config, learning_rate=1e-12)
    images, fresh = prepare(config)
    assert not fresh.initialized
    train(config, tmp_path / "opened", (images, open_model(source).model))
    assert largest_change(tmp_path / "opened", source) < 1e-9
    fresh.load_state_dict(flowpp.load(source).model.state_dict())
    assert fresh.initialized
    train(config, tmp_path / "loaded", (images, fresh))
    assert largest_change(tmp_path / "loaded", source) < 1e-9


def test_fresh_models_are_initialized(source, tiny_config, tmp_path):
    images, model = prepare(tiny_config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(changed(tiny_config, learning_rate=1e-12), tmp_path / "run", (images, model))
    after = model.state_dict()
    differs = [name for name in before if not torch.equal(before[name], after[name])]
    assert model.initialized and any("gain" in name for name in differs)


def test_fine_tuning_lowers_the_bound_of_its_images(source, tiny_config, tmp_path):
    result = train(changed(tiny_config, steps=12), tmp_path / "run", init_from=source)
    before = json.loads((source / "result.json").read_text())["bits_per_dim"]
    assert result.bits_per_dim < before


def test_other_numbers_of_levels(source, tiny_config, tmp_path, capsys):
    rng = np.random.default_rng(0)
    train_images, test_images = (
        rng.integers(0, 32, (count, 1, 8, 8), dtype=np.uint8) for count in (64, 16)
    )
    images = ImageSet("noise", train_images, test_images, 32)
    prepared = prepare(tiny_config, images=images)
    train(tiny_config, tmp_path / "run", prepared, init_from=source)
    assert "trained with 17 levels, now 32" in capsys.readouterr().out


def test_tensors_that_do_not_fit_are_named(source, tiny_config, tmp_path):
    wide = dataclasses.replace(tiny_config.model.flow, filters=8)
    config = dataclasses.replace(
        tiny_config, model=dataclasses.replace(tiny_config.model, flow=wide)
    )
    with pytest.raises(CheckpointError, match=r"do not fit: \d+ of \d+ .* needs \(.*\), got \("):
        train(config, tmp_path / "run", init_from=source)
    assert not (tmp_path / "run").exists()
    opened = open_model(source).model
    weights = InitialWeights.read(source)
    before = weights_hash(opened.state_dict())
    name = next(iter(weights.weights))
    missing = {n: t for n, t in weights.weights.items() if n != name} | {"more": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=rf"{name} needs .*, got none; more is not in the"):
        dataclasses.replace(weights, weights=missing).copy_into(opened)
    assert weights_hash(opened.state_dict()) == before


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((1, 16, 8), r"of shape \(1, 8, 8\), got \(1, 16, 8\): data.size 8x8 makes them fit"),
        ((3, 8, 8), r"got \(3, 8, 8\): data.channels 1 makes them fit"),
        ((3, 16, 16), r": data.size 8x8 and data.channels 1 makes them fit"),
    ],
)
def test_images_of_another_size_say_which_one_fits(source, tiny_config, shape, advice):
    model = flowpp.build_model(tiny_config.model, shape, 17)
    with pytest.raises(CheckpointError, match=rf"do not fit.*{advice}"):
        InitialWeights.read(source).copy_into(model)
    assert not model.initialized


def test_a_run_without_checkpoint_starts_again_from_the_same_weights(
    source, tiny_config, tmp_path
):
    given = shutil.copytree(source, tmp_path / "source")
    config, run = changed(tiny_config, learning_rate=1e-12), tmp_path / "run"
    train(config, run, init_from=given)
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    (run / "result.json").unlink()
    train(config, run, resume=True)
    assert largest_change(run, source) < 1e-9
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    newest = Run.open(given).checkpoint_files()[-1]
    checkpoint = Checkpoint.load(newest)
    name = next(iter(checkpoint.ema))
    ema = {**checkpoint.ema, name: checkpoint.ema[name] + 1}
    dataclasses.replace(checkpoint, ema=ema).save(newest)
    with pytest.raises(CheckpointError, match="weights of .* with hash .*, got .*start it anew"):
        train(config, run, resume=True)


def test_the_command(copy, tmp_path, capsys):
    out = tmp_path / "tuned"
    flags = ["--init-from", str(copy), "--out", str(out), "--training.learning_rate", "1e-12"]
    train_command.main([*flags, "--training.steps", "1"])
    printed = capsys.readouterr().out
    assert "the learning rate only rises, to 2.5% of its peak" in printed
    assert f"starting from the averaged weights of {copy} after step 2" in printed
    assert largest_change(out, copy) < 1e-9
    assert Run.open(out).config().model == Run.open(copy).config().model


def test_settings_of_the_command(copy):
    read = train_command.read_arguments
    former = Run.open(copy).config()
    request = read(["--init-from", str(copy), "--training.learning_rate", "1e-5"])
    assert request.init_from == copy and request.config.training.learning_rate == 1e-5
    assert dataclasses.replace(request.config, training=former.training) == former
    named = read(["small", "--init-from", str(copy), "--data.path", "x"]).config
    assert named.model == former.model and named.preset == "small"
    assert isinstance(named.data, DataConfig) and named.data.path == "x"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resume", "{run}", "--init-from", "{run}"], "must not be given with --init-from"),
        (["--init-from", "nowhere"], "no run directory at nowhere"),
        (
            ["--init-from", "{run}", "--model.flow.filters", "8", "--out", "{run}-new"],
            "tensors differ: ",
        ),
    ],
)
def test_refused_flags(copy, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        train_command.main([flag.format(run=copy) for flag in flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not copy.with_name("run-new").exists()


def test_resume_and_init_from_exclude_each_other(source, tiny_config):
    with pytest.raises(ValueError, match="init_from must be left out"):
        train(tiny_config, source, resume=True, init_from=source)
