"""Few images: refused where no number is meaningful, an honest interval where one is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from flowpp import train
from flowpp.config import Config, DataConfig, TrainingConfig
from flowpp.data import ImageSet
from flowpp.evaluation.bound import Estimate
from flowpp.evaluation.summary import summary
from flowpp.training.setup import prepare

FLAGS = ["--training.steps", "1", "--training.sample_count", "1", "--data.size", "8",
         "--model.flow.layout", "squeeze,channels\t1", "--model.flow.filters", "4",
         "--model.flow.blocks", "1"]  # fmt: skip


def fill(folder, count):
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def run(folder, *more):
    train.main(["small", "--data.path", str(folder), "--out", str(folder.parent / "run"), *FLAGS,
                *more])  # fmt: skip


@pytest.mark.parametrize(
    ("count", "got"),
    [(2, "1 training, 1 test"), (5, "4 training, 1 test"), (19, "18 training, 1 test")],
)
def test_fewer_images_than_mean_anything_are_refused(tmp_path, capsys, count, got):
    with pytest.raises(SystemExit):
        run(fill(tmp_path / "pics", count))
    error = capsys.readouterr().err
    assert f"at least 8 training images and 2 in every other part, got {got}" in error
    assert "data.split 'fifth'" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_one_image_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(fill(tmp_path / "pics", 1))
    error = capsys.readouterr().err
    assert "got 0 and 1; more images are needed" in error and "suffixes" not in error


def test_few_images_give_a_number_with_an_interval(tmp_path, capsys):
    run(fill(tmp_path / "pics", 10), "--data.split", "fifth")
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert math.isfinite(result["bits_per_dim"]) and result["standard_error"] > 0
    # One degree of freedom: the quantile is 12.71.
    margin = 12.706204736 * result["standard_error"]
    low, high = max(0.0, result["bits_per_dim"] - margin), result["bits_per_dim"] + margin
    assert f"its 95 % interval        {low:.4f} ... {high:.4f} (Student's t, 2 images" in printed


def test_the_checks_hold_for_every_data_set(monkeypatch):
    few = np.zeros((7, 1, 8, 8), np.uint8)
    monkeypatch.setattr("flowpp.data.load", lambda config: ImageSet("few", few, few, 17))
    with pytest.raises(ValueError, match="few must have at least 8 training images .* 7 training"):
        prepare(
            Config(data=DataConfig(), training=TrainingConfig(batch_size=4, init_batch_size=4))
        )


def test_intervals_are_those_of_students_t():
    values = torch.tensor([1.0, 2.0, 4.0, 4.5], dtype=torch.float64)
    estimate = Estimate.of(values)
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values.numpy()))
    assert estimate.interval() == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        Estimate.of(values[:1]).interval()


def test_a_single_image_has_no_standard_error():
    assert str(Estimate.of(torch.tensor([1.25]))) == "1.2500 (no standard error: a single image)"
    images = np.zeros((30, 1, 2, 2), np.uint8)
    images_set = ImageSet("some", images, images, 2)
    assert "nan" not in summary({1: Estimate.of(torch.tensor([1.25]))}, images_set)
    assert "interval" not in summary({1: Estimate.of(torch.arange(20.0))}, images_set)
    assert "interval" in summary({1: Estimate.of(torch.arange(19.0))}, images_set)


@pytest.mark.parametrize("argument", ["{}", "{}/00.png"])
def test_a_path_as_the_preset_suggests_the_command(tmp_path, capsys, argument):
    path = argument.format(fill(tmp_path / "pics", 1))
    with pytest.raises(SystemExit):
        train.main([path])
    assert (
        f"did you mean: python -m flowpp.train small --data.path {path}" in capsys.readouterr().err
    )


def test_a_path_alone_suggests_the_command(tmp_path, capsys):
    path = str(fill(tmp_path / "pics", 1))
    with pytest.raises(SystemExit):
        train.main(["--data.path", path])
    assert f"python -m flowpp.train small --data.path {path}" in capsys.readouterr().err


def test_a_folder_named_like_a_preset_is_pointed_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", 1)
    train.read_arguments(["photos"])
    assert "flowpp.train small --data.path photos" in capsys.readouterr().err
    train.read_arguments(["digits"])
    assert not capsys.readouterr().err
