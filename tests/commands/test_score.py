"""`python -m flowpp.score`: bits/dim of every image of a folder, and a picture."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

import flowpp
from flowpp import score
from flowpp.config import DataConfig
from flowpp.data.unsplit import load_all
from flowpp.evaluation.importance import importance_bounds
from flowpp.evaluation.scores import COLUMNS, bits_maps, score_images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve grey pictures of 17 levels, in folders that would be a split; the last is noise."""
    folder, draw = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    for index in range(12):
        file = folder / ("train" if index % 2 else "test") / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 17, (8, 8)) if index == 11 else np.full((8, 8), index)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    return folder


@pytest.fixture
def run(tiny_run):
    return tiny_run[0]


def read(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return rows


@pytest.mark.parametrize("samples", [1, 3])
def test_each_image_has_its_bound_and_rank(samples, run, pictures, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    flags = ["--importance-samples", str(samples), "--seed", "5", "--batch-size", "7"]
    score.main([str(run), str(pictures), "--out", str(out), *flags])
    rows = read(out)
    assert [row["image"] for row in rows][:2] == ["test/00.png", "test/02.png"]
    bits = np.array([float(row["bits_per_dim"]) for row in rows])
    ranks = [int(row["rank"]) for row in rows]
    assert sorted(ranks) == list(range(1, 13)) and np.argmax(bits) == ranks.index(1)
    model = flowpp.load(run)
    pixels = load_all(pictures, model.config.data, (1, 8, 8), 17).pixels
    mean = importance_bounds(model.model, pixels, samples, seed=5)[samples].mean
    assert bits.mean() == pytest.approx(mean, abs=1e-5)
    receipt = json.loads(out.with_suffix(".json").read_text())
    assert receipt["bounds"][-1]["mean"] == pytest.approx(mean, abs=1e-5)
    assert receipt["environment"]["seed"] == 5 and "other data" in receipt["data"]["evaluated"]
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 500
    assert f"most {bits.max():.4f}" in capsys.readouterr().out


def test_scores_are_repeatable_and_do_not_depend_on_the_batch(run, pictures, tmp_path):
    files = []
    for name, flags in (("a", []), ("b", []), ("c", ["--batch-size", "1"])):
        files.append(tmp_path / f"{name}.csv")
        score.main([str(run), str(pictures), "--out", str(files[-1]), *flags])
    assert files[0].read_bytes() == files[1].read_bytes()
    a, c = (np.array([float(row["bits_per_dim"]) for row in read(files[i])]) for i in (0, 2))
    assert np.abs(a - c).max() < 1e-5


@pytest.mark.parametrize("samples", [1, 4])
def test_maps_sum_to_the_scores_of_their_draws(samples, run, pictures):
    model = flowpp.load(run).model
    pixels = load_all(pictures, DataConfig(), (1, 8, 8), 17).pixels
    maps = bits_maps(model, pixels, [11, 3], samples, seed=2)
    assert maps.shape == (2, 8, 8)
    # The mean over draws of the one-sample bounds: the draws of `importance_log_probs`.
    if samples == 1:
        scores = score_images(model, pixels, 1, seed=2, batch=5)
        expected = 64 * scores.one_sample[[11, 3]]
        np.testing.assert_allclose(maps.sum((1, 2)), expected, rtol=1e-5)
    else:
        single = bits_maps(model, pixels, [11, 3], 1, seed=2)
        best = -np.inf
        assert (maps != single).any() and maps.sum() > best
        bound = 64 * score_images(model, pixels, samples, seed=2, batch=5).bits_per_dim[[11, 3]]
        assert (maps.sum((1, 2)) >= bound - 1e-3).all()  # Jensen's inequality


def test_files_of_arrays_and_default_output(run, tmp_path, capsys):
    np.save(tmp_path / "digits.npy", np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8) % 17)
    copy = tmp_path / "run"
    copy.mkdir()
    for file in ("config.json", "environment.json"):
        (copy / file).write_bytes((run / file).read_bytes())
    (copy / "checkpoints").mkdir()
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    (copy / "checkpoints" / newest.name).write_bytes(newest.read_bytes())
    score.main([str(copy), str(tmp_path / "digits.npy")])
    assert len(read(copy / "scores" / "digits.csv")) == 5
    assert (copy / "scores" / "digits.png").is_file()


def test_bad_files_are_refused_or_listed(run, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("L", (9, 11), 3).save(folder / "good.png")
    Image.new("L", (8, 8), 5).save(folder / "small.png")
    Image.new("RGB", (8, 8)).save(folder / "colour.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "page.html").write_text("no image")
    with pytest.raises(SystemExit, match="2"):
        score.main([str(run), str(folder), "--out", str(tmp_path / "s.csv")])
    assert "--skip-bad leaves such files out" in capsys.readouterr().err
    score.main([str(run), str(folder), "--out", str(tmp_path / "s.csv"), "--skip-bad"])
    rows = {row["image"]: row for row in read(tmp_path / "s.csv")}
    assert rows["broken.png"]["note"] and not rows["broken.png"]["bits_per_dim"]
    assert "colour" in rows["colour.png"]["note"] and rows["good.png"]["rank"] in "12"
    assert rows["page.html"]["note"].startswith("not read") and len(rows) == 5
    receipt = json.loads((tmp_path / "s.json").read_text())
    assert receipt["data"]["count"] == 2 and receipt["data"]["unread"] == ["page.html"]
    assert set(receipt["data"]["skipped"]) == {"broken.png", "colour.png"}
    assert "1 file not read: 1 .html" in receipt["environment"]["data"]["notes"]
    (folder / "broken.png").unlink()
    (folder / "page.html").unlink()
    score.main([str(run), str(folder), "--out", str(tmp_path / "s.csv"), "--data.channels", "1"])
    assert all(row["bits_per_dim"] for row in read(tmp_path / "s.csv"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "scores.txt"], "out must be a file that ends in .csv, got scores.txt"),
        (["--show", "0"], "show must be at least 1, got 0"),
        (["--data.channels", "3"], "data.channels must be the model's 1, got 3"),
    ],
)
def test_mistakes(flags, message, run, pictures, capsys):
    with pytest.raises(SystemExit, match="2"):
        score.main([str(run), str(pictures), *flags])
    assert message in " ".join(capsys.readouterr().err.split())


def test_grey_images_for_a_colour_model_are_told_the_flag_that_helps(tmp_path):
    Image.new("L", (8, 8), 3).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="got a grey one; data.channels 3 converts all to col"):
        load_all(tmp_path, DataConfig(), (3, 8, 8), 256)


def test_16_bits_are_reduced_for_a_model_of_8_and_said(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    images = load_all(tmp_path, DataConfig(), (1, 8, 8), 256)
    np.testing.assert_array_equal(images.pixels[0, 0], pixels >> 8)
    assert images.notes == ("reduced from more than 8 bits per channel: 1 file",)


def test_values_beyond_the_levels_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 8, 8), 200, np.uint8))
    with pytest.raises(ValueError, match=r"values 0 \.\.\. 16 for this model, got 200"):
        load_all(tmp_path / "a.npy", DataConfig(), (1, 8, 8), 17)
    reduced = load_all(tmp_path / "a.npy", DataConfig(), (1, 8, 8), 32).pixels
    assert reduced.dtype == np.uint8 and (reduced == 200 >> 3).all()


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="must have images, got none; .*txt"):
        load_all(tmp_path, DataConfig(), (1, 8, 8), 17)


def test_images_without_a_number_are_noted_and_the_command_fails(
    run, pictures, tmp_path, monkeypatch
):
    def one_is_nan(*arguments, **options):
        scores = score_images(*arguments, **options)
        scores.bits_per_dim[2] = math.nan
        return scores

    monkeypatch.setattr("flowpp.evaluation.scores.score_images", one_is_nan)
    with pytest.raises(SystemExit, match="not finite"):
        score.main([str(run), str(pictures), "--out", str(tmp_path / "s.csv")])
    row = read(tmp_path / "s.csv")[2]
    assert row["bits_per_dim"] == row["rank"] == "" and row["note"] == "not finite: nan"
