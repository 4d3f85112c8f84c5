"""Training on images in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import flowpp
from flowpp import data, evaluate, in_memory, interpolate, reconstruct
from flowpp import train as train_command
from flowpp.config import DataConfig
from flowpp.runs.run import Run

FEW = {"steps": 2, "batch_size": 4, "init_batch_size": 8, "device": "cpu", "sample_count": 4,
       "evaluate_every": 2}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return data.load(DataConfig(source="digits")).train[:60]


def test_a_run_of_images_in_memory_is_a_run_like_any_other(images, tmp_path, tiny_config, capsys):
    out = tmp_path / "run"
    model = flowpp.fit(images, preset=tiny_config, out=out, **FEW)
    assert model.step == 2 and model.image_shape == (1, 8, 8) and not model.training
    assert model.bits_per_dim(images[:3]).shape == (3,)
    run = Run.open(out)
    stored = data.load(run.config().data)
    assert len(stored.train) == 54 and len(stored.test) == 6
    everything = np.concatenate([stored.train, stored.test])
    assert {i.tobytes() for i in everything} == {i.tobytes() for i in images}
    evaluate.main([str(out), "--importance-samples", "1", "--device", "cpu"])
    train_command.main(["--resume", str(out), "--training.steps", "3"])
    assert flowpp.load(out).step == 3
    assert "resumed after step 2" in capsys.readouterr().out


def test_held_out_images_weights_and_tensors(images, tmp_path, tiny_config):
    first = flowpp.fit(
        torch.from_numpy(images), preset=tiny_config, out=tmp_path / "a", test=images[:9], **FEW
    )
    again = flowpp.fit(
        images,
        preset=tiny_config,
        out=tmp_path / "b",
        init_from=tmp_path / "a",
        **{**FEW, "learning_rate": 1e-12},
    )
    stored = data.load(Run.open(tmp_path / "a").config().data)
    assert (len(stored.train), len(stored.test)) == (60, 9)
    np.testing.assert_allclose(again.log_prob(images[:5]), first.log_prob(images[:5]), rtol=1e-4)


def test_reconstruct_takes_what_is_held_out(images, tmp_path, tiny_config, capsys):
    out = tmp_path / "run"
    flowpp.fit(images, preset=tiny_config, out=out, **FEW)
    reconstruct.main([str(out), "--device", "cpu"])
    assert "6 held-out images" in capsys.readouterr().out


@pytest.mark.parametrize("command", [reconstruct, interpolate])
def test_images_of_other_data_are_not_called_held_out(
    command, images, tmp_path, tiny_config, capsys
):
    out = tmp_path / "run"
    flowpp.fit(images, preset=tiny_config, out=out, **FEW)
    flowpp.fit(images[::-1].copy(), preset=tiny_config, out=tmp_path / "other", **FEW)
    others = Run.open(tmp_path / "other").config().data.path
    checkpoint = max(out.glob("checkpoints/*"))
    flags = ["--device", "cpu"] + (["--pairs", "2"] if command is interpolate else [])
    capsys.readouterr()
    for run in (out, checkpoint):
        command.main([str(run), *flags, "--data.path", others])
        assert "may be among those of the training: " in capsys.readouterr().err
        command.main([str(run), *flags])
        assert "among those" not in capsys.readouterr().err


def test_no_folder_is_left_of_images_that_are_refused(images, tmp_path, tiny_config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (None, "mine"):
        with pytest.raises(ValueError, match="multiply by 255"):
            flowpp.fit(images / 255, preset=tiny_config, out=folder, **FEW)
    assert not list(tmp_path.glob("runs/*")) and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda x: x / 255, {}, ValueError, r"^images must be integers 0 ... 255, .* by 255 \("),
        (lambda x: torch.rand(60, 1, 8, 8), {}, ValueError, "^images .* 0 and 1: multiply by 255"),
        (lambda x: x.astype(int) - 1, {}, ValueError, "^images must be integers .*, got -1$"),
        (lambda x: x > 8, {}, TypeError, "^images .* got torch.bool: multiply by 255"),
        (lambda x: x[0, 0], {}, ValueError, r"^images must be .* or \(N, C, H, W\), got \(8, 8\)"),
        (lambda x: x[:19], {}, ValueError, "^images must be at least 20, .* got 19: .* by test=$"),
        (lambda x: x[0], {}, ValueError, "^images must be at least 20, .* got 1: "),
        (lambda x: x[:0], {}, ValueError, "^images must not be empty"),
        (
            lambda x: "photos",
            {},
            TypeError,
            "got a path: .* flowpp.train small --data.path photos",
        ),
        (lambda x: TensorDataset(torch.from_numpy(x)), {}, TypeError, r"TensorDataset: .*stack\("),
        (
            lambda x: (x, np.arange(60)),
            {},
            TypeError,
            "of different shapes; of a batch with labels",
        ),
        (lambda x: np.zeros((60, 9, 9)), {}, ValueError, "a multiple of 2 .* fit are 8 and 10$"),
        (
            lambda x: x,
            {"test": np.zeros((9, 16, 16))},
            ValueError,
            "^test must have the images' sh",
        ),
        (lambda x: x, {"test": [[[0] * 8] * 8]}, ValueError, "^test must be at least 2 .* got 1$"),
        (
            lambda x: x,
            {"preset": DataConfig()},
            TypeError,
            "^preset must be a Config, got DataCon",
        ),
        (lambda x: x, {"init_from": "nothing"}, FileNotFoundError, "no run directory at nothing"),
        (lambda x: x, {"lr": 1e-3}, TypeError, "got lr; did you mean 'learning_rate'"),
        (lambda x: x, {"epochs": 1}, TypeError, "got epochs; did you mean 'steps'"),
        (lambda x: x, {"steps": "3"}, ValueError, "steps must be int, got '3'"),
        (lambda x: x, {"stepz": 3}, TypeError, "training settings must be among .*, got stepz"),
        (lambda x: x, {"steps": 0}, ValueError, "training.steps must be at least 1, got 0"),
    ],
)
def test_refused(images, tmp_path, tiny_config, change, options, error, message):
    out = tmp_path / "run"
    for _ in range(2):  # the folder remains usable
        with pytest.raises(error, match=message):
            flowpp.fit(change(images), **{"preset": tiny_config, "out": out, **FEW, **options})
    assert not out.exists()


@pytest.mark.parametrize("dtype", [np.int64, ">f8", np.uint16])
def test_integers_of_any_type(images, tmp_path, tiny_config, dtype):
    given = images.astype(dtype)
    few = {**FEW, "steps": np.int64(1), "device": torch.device("cpu")}
    model = flowpp.fit(given, preset=tiny_config, out=tmp_path / "run", test=given[:9], **few)
    stored = data.load(Run.open(tmp_path / "run").config().data)
    assert model.levels == stored.levels == (1 << 16 if dtype == np.uint16 else 256)
    assert np.array_equal(stored.train, images) and stored.train.dtype.itemsize < 4


def test_nothing_is_overwritten(images, tmp_path, tiny_config, monkeypatch):
    (tmp_path / "images.npz").write_bytes(b"mine")
    with pytest.raises(ValueError, match="run directory must be new or empty"):
        flowpp.fit(images, preset=tiny_config, out=tmp_path)
    assert (tmp_path / "images.npz").read_bytes() == b"mine"
    monkeypatch.setattr(in_memory, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"at most 0 GiB.*use  python -m flowpp.train small"):
        flowpp.fit(images, preset=tiny_config, out=tmp_path / "new")
