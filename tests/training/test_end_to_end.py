"""A three-step run, and the commands that read it."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from flowpp import data, evaluate, sample, train
from flowpp.config import TrainingConfig
from flowpp.evaluation import sampling
from flowpp.evaluation.grids import grid
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run
from flowpp.runtime.image_tensors import image_array
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.loop import train as run_training
from flowpp.training.result import average_note

TINY_FLAGS = """
--model.flow.layout "checkerboard 1" --model.flow.filters 4 --model.flow.blocks 1
--model.flow.components 2 --model.dequantization uniform --training.steps 2
--training.batch_size 8 --training.init_batch_size 16 --training.sample_count 4
--training.threads 1
"""


def test_run_directory(tiny_run, tiny_config):
    out, result = tiny_run
    assert Run.open(out).config() == tiny_config
    environment = json.loads((out / "environment.json").read_text())
    assert environment["data"]["sha256"] == data.load(tiny_config.data).sha256
    assert environment["device"] == "cpu" and environment["tf32"] == "not applicable"
    assert environment["threads"] == 1
    # Only the module's version always names the build, such as +cu130.
    assert environment["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 2, 3, 3]
    assert [HELD_OUT in r for r in records] == [False, False, True, False, True]
    numbers = [v for r in records for k, v in r.items() if k != "layer_log_det"]
    assert all(math.isfinite(number) for number in numbers)
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == [
        "best.safetensors",
        "step-00000000.safetensors",
        "step-00000002.safetensors",
        "step-00000003.safetensors",
    ]
    assert [p.name for p in sorted((out / "samples").iterdir())] == [
        "held-out.png",
        "step-00000002.png",
        "step-00000003.png",
    ]
    assert any((out / "tensorboard").iterdir())
    assert json.loads((out / "result.json").read_text()) == dataclasses.asdict(result)


def test_result(tiny_run):
    _, result = tiny_run
    assert result.steps == 3 and 0 < result.standard_error < 0.2
    assert 2 < result.bits_per_dim < 6
    assert result.uniform == pytest.approx(4.09, abs=0.005)
    assert result.histogram == pytest.approx(2.363, abs=0.005)


def test_evaluation_repeats_the_number_of_the_run(tiny_run, capsys):
    out, result = tiny_run
    evaluate.main([str(out)])
    text = capsys.readouterr().out
    assert f"one-sample bound           {result.bits_per_dim:.4f}" in text
    assert "297 images" in text


def test_importance_samples_tighten_the_bound(tiny_run, capsys):
    evaluate.main([str(tiny_run[0]), "--importance_samples", "5", "--images", "40"])
    lines = capsys.readouterr().out.splitlines()
    one, five = (float(line.split("+-")[0].split()[-1]) for line in lines[1:3])
    assert five < one


def test_sample_writes_a_grid(tiny_run, tmp_path, capsys):
    out = tmp_path / "grid.png"
    flags = [str(tiny_run[0]), "--plain", "--count", "5", "--seed", "3"]
    sample.main([*flags, "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.size == (3 * 66 + 2, 2 * 66 + 2) and picture.mode == "L"
    again = tmp_path / "again.png"
    sample.main([*flags, "--out", str(again)])
    assert again.read_bytes() == out.read_bytes()


def test_samples_are_images(tiny_run):
    opened = open_model(tiny_run[0])
    images, model = load_images(opened.config), opened.model
    drawn = sampling.sample(model, images.shape, 70, seeded_generator(1))
    assert drawn.shape == (70, 1, 8, 8) and drawn.dtype == np.uint8 and drawn.max() <= 16


def test_a_nan_sample_is_an_error_not_a_black_pixel(tiny_run, capsys, monkeypatch):
    opened = open_model(tiny_run[0])
    images, model = load_images(opened.config), opened.model
    last = [layer for layer in model.flow.modules() if type(layer).__name__ == "ActNorm"][-1]
    last.bias.data.view(-1)[0] = math.nan
    with pytest.raises(sampling.NonFiniteSampleError, match=r"got \d+ that are not, in 3 of 3 im"):
        sampling.sample(model, images.shape, 3, seeded_generator(1))

    def one_pixel_is_nan(*_, **__):
        return image_array(torch.tensor([[1.5, math.nan]]), 256)

    monkeypatch.setattr(sampling, "sample", one_pixel_is_nan)
    with pytest.raises(SystemExit, match="pixels must be finite, got 1 that are not, in 1 of 1"):
        sample.main([str(tiny_run[0])])


def test_grid_stretches_levels_and_magnifies():
    images = np.zeros((3, 1, 8, 8), np.uint8)
    images[1, 0, 0, 7] = 16
    canvas = grid(images, 17)
    assert canvas.shape == (2 * 66 + 2, 2 * 66 + 2)
    assert (canvas[2:10, 66 + 2 + 56 : 66 + 2 + 64] == 255).all()
    assert (canvas[2:66, 2:66] == 0).all() and canvas[100, 100] == 128


def test_grid_refuses_two_channels():
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        grid(np.zeros((1, 2, 8, 8), np.uint8), 17)


def test_same_seed_same_run(tiny_config, tiny_run, tmp_path):
    again = run_training(tiny_config, tmp_path / "again")
    assert again.bits_per_dim == tiny_run[1].bits_per_dim
    other = dataclasses.replace(
        tiny_config, training=dataclasses.replace(tiny_config.training, seed=1)
    )
    assert run_training(other, tmp_path / "other").bits_per_dim != again.bits_per_dim


def test_evaluation_does_not_affect_training(tiny_config, tiny_run, tmp_path):
    never = dataclasses.replace(
        tiny_config, training=dataclasses.replace(tiny_config.training, evaluate_every=1000)
    )
    assert run_training(never, tmp_path / "r").bits_per_dim == tiny_run[1].bits_per_dim


def test_command_line_trains(tmp_path, capsys):
    import shlex

    train.main(["digits", *shlex.split(TINY_FLAGS), "--out", str(tmp_path / "r")])
    text = capsys.readouterr().out
    assert "step 2/2" in text  # plain lines: stdout is not a terminal
    assert "--importance-samples 64" in text  # spelled as in the README
    assert "preset digits, data digits: 1500 training images of shape (1, 8, 8), " in text
    for line in ("on digits, 297 images", "  independent pixels         2.36", "samples   "):
        assert line in text
    assert "(all held-out)" not in text
    assert (tmp_path / "r" / "samples" / "step-00000002.png").is_file()
    note = "note      99% of the averaged weights are still those before the first step"
    assert f"{note}: with training.ema_decay 0.995 use at least 598 steps" in text


def test_no_note_on_an_average_that_has_forgotten_the_initial_weights():
    for decay, steps in ((0.0, 1), (0.98, 149)):
        settings = TrainingConfig(ema_decay=decay)
        assert average_note(settings, steps) is None
    assert "95%" in average_note(TrainingConfig(ema_decay=0.95), 1)
