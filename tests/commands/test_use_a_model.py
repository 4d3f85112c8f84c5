"""The Python interface of a trained model, and the commands that use one."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

import flowpp
from flowpp import convert, data, interpolate, plot, reconstruct, sample
from flowpp.evaluation.grids import grid
from flowpp.evaluation.labelled_grids import MARGIN, Panel, save_labelled
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run


@pytest.fixture
def model(tiny_run):
    return flowpp.load(tiny_run[0])


@pytest.fixture
def images(tiny_run):
    return load_images(Run.open(tiny_run[0]).config()).test[:70]


def test_log_prob_is_the_bound_in_nats(model, images):
    nats = model.log_prob(images, seed=3)
    assert nats.shape == (70,) and nats.dtype == np.float64
    assert np.array_equal(nats, model.log_prob(images.astype(int).tolist(), seed=3))
    assert not np.array_equal(nats, model.log_prob(images))
    assert 2 < -nats.mean() / (64 * math.log(2)) < 6


def test_decode_inverts_encode(model, images):
    z = model.encode(images)
    assert z.shape[0] == 70 and z[0].size == 64
    assert np.array_equal(model.decode(z), images)
    back, distance = model.round_trip(images)
    assert np.array_equal(back, images) and distance.max() < 1e-3


def test_samples_depend_on_seed_and_temperature(model):
    drawn = model.sample(5, seed=1)
    assert drawn.shape == (5, 1, 8, 8) and drawn.dtype == np.uint8 and drawn.max() <= 16
    assert np.array_equal(drawn, model.sample(5, seed=1))
    assert not np.array_equal(drawn, model.sample(5, seed=2))
    cold = model.sample(5, temperature=0.0)
    assert (cold == cold[0]).all()


def test_invalid_arguments(model, images):
    with pytest.raises(ValueError, match=r"shape \(N, 1, 8, 8\), got \(70, 8, 8\)"):
        model.log_prob(images[:, 0])
    with pytest.raises(ValueError, match="integers 0 ... 16, got 17"):
        model.encode(np.full((1, 1, 8, 8), 17))
    with pytest.raises(ValueError, match="temperature must be finite and at least 0, got -1"):
        model.sample(1, temperature=-1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        model.sample(0)


def test_load_a_single_checkpoint_file(tiny_run, tmp_path, images):
    newest = Run.open(tiny_run[0]).checkpoint_files()[-1]
    file = shutil.copy(newest, tmp_path / "model.safetensors")
    alone = flowpp.load(file)
    assert alone.step == 3
    assert np.array_equal(alone.log_prob(images), flowpp.load(tiny_run[0]).log_prob(images))
    bare = Checkpoint.load(file)
    Checkpoint(3, bare.weights, bare.ema).save(tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="bare.safetensors stores no settings; load its run"):
        flowpp.load(tmp_path / "bare.safetensors")


def test_load_the_best_checkpoint(tiny_run):
    run = Run.open(tiny_run[0])
    held_out = {r["step"]: r["held_out_bits_per_dim"] for r in run.metrics() if len(r) > 6}
    held_out = {step: value for step, value in held_out.items() if value is not None}
    best = min(held_out, key=held_out.get)
    assert flowpp.load(run.path, checkpoint="best").step == best
    assert flowpp.load(run.path, which="best").step == best  # the former name


def test_sample_writes_arrays(tiny_run, tmp_path, model):
    out = tmp_path / "grid.png"
    sample.main([str(tiny_run[0]), "--count", "3", "--temperature", "0.5", "--out", str(out)])
    with np.load(tmp_path / "grid.npz", allow_pickle=False) as written:
        assert np.array_equal(written["images"], model.sample(3, temperature=0.5))
        assert written["temperature"] == 0.5 and written["levels"] == 17


def test_reconstruct(tiny_run, tmp_path, capsys):
    out = tmp_path / "r.png"
    reconstruct.main([str(tiny_run[0]), "--count", "6", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "6 held-out images, float32" in printed
    assert "0 of 384 pixel values changed" in printed
    with np.load(tmp_path / "r.npz", allow_pickle=False) as written:
        assert np.array_equal(written["images"], written["reconstructed"])


@pytest.mark.parametrize(
    ("main", "flags", "shape"),
    [
        (sample.main, ["--count", "6", "--seed", "2"], (2, 3)),
        (sample.main, ["--count", "1"], (1, 1)),
        (interpolate.main, ["--pairs", "2", "--steps", "5"], (2, 5)),
        (reconstruct.main, ["--count", "1"], (1, 1)),
    ],
)
def test_a_titled_picture_holds_the_plain_one(tiny_run, tmp_path, main, flags, shape):
    """Titles and labels stand above and beside the grid, whose pixels are the same."""
    named, plain = tmp_path / "a.png", tmp_path / "b.png"
    main([str(tiny_run[0]), "--out", str(named), *flags])
    main([str(tiny_run[0]), "--out", str(plain), "--plain", *flags])
    images = np.load(tmp_path / "a.npz")["images"]
    expected = grid(images, 17, columns=shape[1])
    with Image.open(named) as picture, Image.open(plain) as alone:
        whole, pixels = np.asarray(picture), np.asarray(alone)
    height, width = expected.shape
    assert np.array_equal(pixels[:height, :width], expected)
    if main is not reconstruct.main:
        assert pixels.shape == expected.shape
    below = whole[-height:]
    starts = [x for x in range(whole.shape[1] - width + 1)
              if np.array_equal(below[:, x : x + width], expected)]  # fmt: skip
    assert starts and whole.shape[1] >= 420 and len(whole) > height + 20
    assert (whole[: len(whole) - height] < 100).any()  # the title's ink


def test_reconstructions_are_beside_their_images_under_their_labels(tmp_path):
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8) % 17
    panels = [Panel(images, "held-out images"), Panel(images[::-1], "reconstructions from z")]
    save_labelled(tmp_path / "r.png", "a title", panels, 17)
    with Image.open(tmp_path / "r.png") as picture:
        whole = np.asarray(picture)
    height, width = grid(images, 17).shape
    assert np.array_equal(whole[-height:, :width], grid(images, 17))
    right = width + 2 * MARGIN
    assert np.array_equal(whole[-height:, right : right + width], grid(images[::-1], 17))


@pytest.mark.parametrize(("channels", "kind"), [(1, np.uint16), (3, np.uint8)])
def test_titles_keep_colour_and_16_bits(tmp_path, channels, kind):
    images = np.full((2, channels, 4, 4), 3, np.uint16)
    save_labelled(tmp_path / "t.png", "title", [Panel(images, columns_named=("a", "b"))], 65536)
    with Image.open(tmp_path / "t.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.dtype == kind and pixels[0, -1].max() == np.iinfo(kind).max
    assert np.array_equal(pixels[-10, 10], np.full(channels, 3 if channels == 1 else 0).squeeze())


@pytest.mark.parametrize("way", ["great-circle", "straight"])
def test_interpolations_start_and_end_at_the_images(tiny_run, tmp_path, images, way):
    out = tmp_path / "i.png"
    interpolate.main(
        [str(tiny_run[0]), "--pairs", "3", "--steps", "5", "--way", way, "--out", str(out)]
    )
    with np.load(tmp_path / "i.npz", allow_pickle=False) as written:
        rows = written["images"].reshape(3, 5, 1, 8, 8)
    assert np.array_equal(rows[:, 0], images[:6:2]) and np.array_equal(rows[:, -1], images[1:6:2])
    assert len(np.unique(rows[0], axis=0)) == 5


@pytest.mark.parametrize("main", [reconstruct.main, interpolate.main])
def test_moved_images_are_found(tiny_run, tmp_path, monkeypatch, main):
    load, paths = data.load, []

    def loaded(settings):
        paths.append(settings.path)
        return load(dataclasses.replace(settings, path=None))

    monkeypatch.setattr(data, "load", loaded)
    out = tmp_path / "moved.png"
    main([str(tiny_run[0]), "--data.path", "elsewhere", "--out", str(out)])
    assert paths == ["elsewhere"] and out.is_file()


def test_great_circles_keep_the_length():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4))
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    points = interpolate.between(a, b, 6, "great-circle")
    np.testing.assert_allclose(np.linalg.norm(points, axis=(1, 2)), np.linalg.norm(a))
    np.testing.assert_allclose(points[[0, -1]], [a, b])
    np.testing.assert_allclose(interpolate.between(a, a, 3, "great-circle"), [a] * 3)
    np.testing.assert_allclose(interpolate.between(a, -a, 3, "great-circle")[1], 0 * a)


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (reconstruct.main, ["--count", "0"], "count must be at least 1"),
        (interpolate.main, ["--steps", "1"], "steps must be at least 2"),
        (interpolate.main, ["--pairs", "149"], "pairs must be at most 148"),
        (reconstruct.main, ["--count", "298"], "at most the 297 held-out images, got 298"),
        (sample.main, ["--temperature", "nan"], "temperature must lie in [0, inf), got nan"),
        (plot.main, ["--out", "/no/such/folder"], "out must be an existing folder"),
    ],
)
def test_invalid_flags(tiny_run, main, flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tiny_run[0]), *flags])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert message in " ".join((captured.out + captured.err).replace("│", " ").split())


def test_plot_draws_several_runs(tiny_run, tmp_path, capsys):
    other = shutil.copytree(tiny_run[0], tmp_path / "other")
    with open(other / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "bits_p')  # incomplete, as during training
    plot.main([str(tiny_run[0]), str(other), "--out", str(tmp_path)])
    for name in ("curves.png", "samples.png"):
        assert str(tmp_path / name) in capsys.readouterr().out or (tmp_path / name).is_file()
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300


def test_plot_against_images_seen(tiny_run, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    for flags in ([], ["--images-seen"]):
        plot.main([str(tiny_run[0]), "--out", str(tmp_path), *flags])
    steps, images = (f.axes[0] for f in figures if len(f.axes) == 3)
    assert (steps.get_xlabel(), images.get_xlabel()) == ("step", "images seen")
    batch = Run.open(tiny_run[0]).config().training.batch_size
    one, other = (axes.lines[0].get_xdata() for axes in (steps, images))
    assert list(other) == [batch * step for step in one]


def test_plot_refuses_a_run_without_metrics(tiny_run, tmp_path, capsys):
    empty = shutil.copytree(tiny_run[0], tmp_path / "empty")
    (empty / "metrics.jsonl").write_text("")
    with pytest.raises(SystemExit):
        plot.main([str(empty)])
    assert "has no metrics yet" in capsys.readouterr().err
    (empty / "metrics.jsonl").write_text('oh\n{"step": 1}\n')
    with pytest.raises(SystemExit):
        plot.main([str(empty)])
    assert "line 1 is damaged" in capsys.readouterr().err


def test_metrics_of_an_evaluation(tiny_run):
    """The terms of the bound add up."""
    lines = (tiny_run[0] / "metrics.jsonl").read_text().splitlines()
    record = json.loads(lines[2])
    parts = [record[f"held_out_{n}"] for n in ("log_q", "log_det", "log_prior")]
    assert record["held_out_bits_per_dim"] == pytest.approx(parts[0] - parts[1] - parts[2])
    assert record["held_out_images"] == 16 and record["held_out_standard_error"] > 0
    assert 0 < record["round_trip_median"] <= record["round_trip_max"] < 1e-3
    assert record["log_scale_min"] < record["log_scale_max"]
    names = list(record["layer_log_det"])
    assert any(n.startswith("flow/") and n.endswith("-Coupling") for n in names)
    assert any(n.startswith("dequantizer/") and n.endswith("-Sigmoid") for n in names)
    assert names.index("flow/000-DataLogit") < len(names)
    assert any((tiny_run[0] / "tensorboard").iterdir())


def test_log_dets_of_layers_add_up_to_the_flow(tiny_run, images):
    from flowpp.evaluation.bound import evaluate_bound
    from flowpp.evaluation.diagnostics import diagnose
    from flowpp.runtime.random_state import seeded_generator

    model = open_model(tiny_run[0]).model
    found = diagnose(model, images[:32], seeded_generator(0))
    terms = evaluate_bound(model, images[:32], seeded_generator(0))
    total = sum(v for k, v in found.layers.items() if k.startswith("flow/"))
    assert total == pytest.approx(terms["log_det"].mean, abs=1e-5)


def test_a_model_in_one_file(tiny_run, tmp_path, images):
    """One file of averaged weights and settings gives the same results as the run."""
    out = tmp_path / "elsewhere" / "model.safetensors"
    convert.main([str(tiny_run[0]), "--out", str(out)])
    alone, run = flowpp.load(out), flowpp.load(tiny_run[0])
    assert np.array_equal(alone.log_prob(images), run.log_prob(images))
    assert np.array_equal(alone.sample(3, seed=1), run.sample(3, seed=1))
    assert alone.step == 3 and alone.config.model == run.config.model
    inside = Checkpoint.load(out)
    assert not inside.state and not inside.ema
    whole = Run.open(tiny_run[0]).checkpoint_files()[-1]
    assert out.stat().st_size < whole.stat().st_size / 3
