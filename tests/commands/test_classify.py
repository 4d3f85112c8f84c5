"""`python -m flowpp.classify`: classes of images by Bayes' rule."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import flowpp
from conditional import conditional_model, saved
from flowpp import classify
from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data import load
from flowpp.evaluation.classification import class_log_probs, fitted_temperature, log_posterior
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import model_facts
from tiny import TINY

NAMES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return saved(folder / "model.safetensors", TINY, (1, 8, 8), 17, "labels")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Fifteen pictures of each class, in folders of their names."""
    folder, draw = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    for index in range(45):
        file = folder / NAMES[index % 3] / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 17, (8, 8)).astype(np.uint8)).save(file)
    return folder


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_posteriors_accuracy_and_confusion(model, pictures, tmp_path, capsys):
    out = tmp_path / "c.csv"
    classify.main([str(model), str(pictures), "--out", str(out), "--seed", "4"])
    rows, result = rows_of(out), json.loads(out.with_suffix(".json").read_text())
    assert len(rows) == 45 and rows[0]["image"] == "bird/00.png" and rows[0]["truth"] == "bird"
    assert list(rows[0]) == ["image", "prediction", "truth", *(f"P({n})" for n in NAMES), "note"]
    posterior = np.array([[float(row[f"P({name})"]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(posterior.sum(1), 1, atol=2e-6)
    right = [row["prediction"] == row["truth"] for row in rows]
    assert result["accuracy"]["mean"] == pytest.approx(np.mean(right))
    assert result["accuracy"]["chance"] == pytest.approx(1 / 3)
    matrix = np.array(result["confusion"])
    assert matrix.sum(1).tolist() == [15, 15, 15] and np.trace(matrix) == sum(right)
    for row in rows:
        assert row["prediction"] == NAMES[posterior[rows.index(row)].argmax()]
    assert result["cost"]["passes"] == 45 * 3 and out.with_suffix(".png").is_file()

    # The halves: images of even and odd place, in the order of the CSV.
    opened = flowpp.load(model)
    pixels = np.stack([np.asarray(Image.open(pictures / row["image"]))[None] for row in rows])
    log_probs = class_log_probs(opened.model, pixels, seed=4)
    truth, prior = np.array([NAMES.index(row["truth"]) for row in rows]), np.full(3, 1 / 3)
    other = fitted_temperature(log_probs[1::2], prior, truth[1::2])
    expected = np.exp(log_posterior(log_probs[::2], prior, other))
    np.testing.assert_allclose(posterior[::2], expected, atol=2e-5)
    errors = result["calibration"]["expected_calibration_error"]
    assert errors["after"] < errors["before"]
    printed = capsys.readouterr().out
    assert "45 images of pictures, 3 classes" in printed and "chance 33.3%" in printed
    assert "fitted on the other half of these images" in printed


def test_images_of_unknown_class_are_classified(model, pictures, tmp_path, capsys):
    out, unknown = tmp_path / "c.csv", tmp_path / "unknown"
    shutil.copytree(pictures / "cat", unknown)
    classify.main([str(model), str(unknown), "--out", str(out)])
    rows, result = rows_of(out), json.loads(out.with_suffix(".json").read_text())
    assert len(rows) == 15 and {row["truth"] for row in rows} == {""}
    assert result["accuracy"] is None and not out.with_suffix(".png").exists()
    printed = capsys.readouterr().out
    assert "accuracy     unknown" in printed
    assert "temperature  1, fitted on nothing: no validation images" in printed


def test_the_folder_itself_may_be_a_class(model, pictures, tmp_path, capsys):
    out = tmp_path / "c.csv"
    classify.main([str(model), str(pictures / "cat"), "--out", str(out), "--calibrate", "none"])
    assert {row["truth"] for row in rows_of(out)} == {"cat"}
    matrix = json.loads(out.with_suffix(".json").read_text())["confusion"]
    assert [sum(row) for row in matrix] == [0, 15, 0]
    assert "temperature  1, fitted on nothing, as requested" in capsys.readouterr().out


def test_classes_of_a_table(model, pictures, tmp_path, capsys):
    """They win over the folders; other classes and images are refused, missing ones unknown."""
    table, out = tmp_path / "classes.csv", tmp_path / "c.csv"
    files = sorted(pictures.rglob("*.png"))
    table.write_text("file,label\n" + "".join(f"{file.name},dog\n" for file in files))
    flags = ["--labels", str(table), "--out", str(out), "--calibrate", "none"]
    classify.main([str(model), str(pictures), *flags])
    assert {row["truth"] for row in rows_of(out)} == {"dog"}
    table.write_text("".join(f"{file.name},cat\n" for file in files[5:]))
    classify.main([str(model), str(pictures), *flags])
    assert [row["truth"] for row in rows_of(out)].count("") == 5
    for text, message in (
        (
            "".join(f"{file.name},cow\n" for file in files),
            "must be among bird, cat, dog; got 'cow'",
        ),
        ("other.png,cat\n", "must name an image of"),
    ):
        table.write_text("file,label\n" + text)
        with pytest.raises(SystemExit, match="2"):
            classify.main([str(model), str(pictures), *flags])
        assert message in capsys.readouterr().err


def test_labels_in_a_file_of_arrays(model, tmp_path, capsys):
    images, out = np.zeros((4, 8, 8), np.uint8), tmp_path / "c.csv"
    np.savez(tmp_path / "a.npz", images=images, labels=["dog", "cat", "cow", "dog"])
    classify.main([str(model), str(tmp_path / "a.npz"), "--out", str(out)])
    assert [row["truth"] for row in rows_of(out)] == ["dog", "cat", "", "dog"]
    np.save(tmp_path / "b.npy", images)
    classify.main([str(model), str(tmp_path / "b.npy"), "--out", str(out)])
    assert {row["truth"] for row in rows_of(out)} == {""}
    assert "accuracy     unknown" in capsys.readouterr().out


def test_a_few_known_classes_are_said_to_be_few(model, pictures, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("cat", "other"):
        (folder / name).mkdir()
        Image.new("L", (8, 8), 3).save(folder / name / "x.png")
    classify.main([str(model), str(folder), "--out", str(tmp_path / "c.csv")])
    printed = capsys.readouterr().out
    assert "1 image of unknown class, the first: other/x.png" in printed
    assert [row["truth"] for row in rows_of(tmp_path / "c.csv")] == ["cat", ""]


def test_held_out_images_of_a_run_and_the_prior_of_training(tmp_path, capsys):
    """Without FOLDER: the run's own, with their labels; the prior by training counts."""
    config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, labels="folder"))
    images = load(config.data)
    model = conditional_model(config.model, images.shape, images.levels, images.context)
    file = tmp_path / "digits.safetensors"
    facts = model_facts(config, images.shape, images.levels, images.context)
    Checkpoint(0, model.state_dict(), {}, facts=facts).save(file)
    classify.main([str(file), "--prior", "training", "--out", str(tmp_path / "c.csv")])
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["images"] == result["images_of_known_class"] == 297
    counts = np.bincount(images.context_of("train"))
    assert list(result["prior"].values()) == pytest.approx((counts / 1500).tolist())
    assert (
        np.array(result["confusion"]).sum(1).tolist()
        == np.bincount(images.context_of("test")).tolist()
    )
    assert "297 images of digits, 10 classes" in capsys.readouterr().out


def test_the_temperature_of_validation_images(tmp_path, capsys):
    """Those of the run are used for other images, too; a run of other data is refused."""
    folder, draw = tmp_path / "own", np.random.default_rng(0)
    for part, count in (("train", 2), ("val", 7), ("test", 1)):
        for name in NAMES:
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
    data = DataConfig("folder", str(folder), size=8, channels=1, labels="folder")
    config, images = dataclasses.replace(TINY, data=data), load(data)
    model = conditional_model(config.model, images.shape, images.levels, images.context)
    facts = model_facts(config, images.shape, images.levels, images.context)
    file, out = tmp_path / "m.safetensors", tmp_path / "c.csv"
    facts["data_sha256"] = images.sha256
    Checkpoint(0, model.state_dict(), {}, facts=facts).save(file)
    classify.main([str(file), str(folder / "test" / "cat"), "--out", str(out)])
    result = json.loads(out.with_suffix(".json").read_text())["calibration"]
    log_probs = class_log_probs(model, images.valid)
    fitted = fitted_temperature(log_probs, np.full(3, 1 / 3), images.context_of("valid"))
    assert result["temperatures"] == [pytest.approx(fitted, rel=1e-3)]
    assert result["images"] == 21 and result["fitted_on"] == "the run's validation images"

    facts["data_sha256"] = "0" * 64
    Checkpoint(0, model.state_dict(), {}, facts=facts).save(file)
    with pytest.raises(SystemExit, match="2"):
        classify.main([str(file), "--out", str(out)])
    assert "was trained on data with hash 000000000000" in capsys.readouterr().err
    classify.main([str(file), str(folder / "test" / "cat"), "--out", str(out)])
    assert "the run's data cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{pictures}", "--importance-samples", "0"], "importance_samples must be at least 1"),
        (["--labels", "x.csv"], "labels needs FOLDER"),
        (["{pictures}", "--out", "x.txt"], "must be a file that ends in .csv"),
        (["{pictures}", "--out", "{pictures}/x.csv"], "out must lie outside"),
        (["{pictures}/none"], "none"),
    ],
)
def test_mistakes(flags, message, model, pictures, capsys):
    with pytest.raises(SystemExit, match="2"):
        classify.main([str(model), *(flag.format(pictures=pictures) for flag in flags)])
    assert message in capsys.readouterr().err


def test_data_of_other_classes_than_the_models_are_not_used(monkeypatch, capsys):
    """A file of weights need not record its data, to which a class may have been added."""
    spec = ContextSpec("labels", "folder", NAMES)
    images = SimpleNamespace(
        valid=1, name="data", context_of=lambda part: np.zeros(1),
        context=dataclasses.replace(spec, names=("ant", *NAMES)),
    )  # fmt: skip
    monkeypatch.setattr("flowpp.runs.open_model.load_images", lambda config, path: images)
    monkeypatch.setattr("flowpp.runs.environment.check_images_of", lambda *arguments: False)
    model = SimpleNamespace(levels=17, context_spec=spec)
    opened = SimpleNamespace(
        config=None, image_shape=None, model=model, checkpoint=SimpleNamespace(facts={})
    )
    arguments = SimpleNamespace(
        images="x", prior="uniform", calibrate="auto", data_path=None, run="r"
    )
    assert classify._run_data(arguments, opened) is None
    assert "for none (bird, cat, dog), got a label 0 ... 3" in capsys.readouterr().err
    arguments.prior = "training"
    with pytest.raises(ValueError, match="images of data must have a label"):
        classify._run_data(arguments, opened)


def test_validation_images_for_the_temperature_are_of_all_classes(monkeypatch):
    """Images lie class by class; those without a finite number are left out."""
    valid = np.arange(60)
    data = SimpleNamespace(valid=valid, name="x", context_of=lambda part: valid // 20)
    given = []

    def log_probs(arguments, opened, pixels, batch):
        given.append(pixels)
        found = np.random.default_rng(0).normal(0, 100, (len(pixels), 3))
        found[0] = np.nan
        return found

    monkeypatch.setattr(classify, "_log_probs", log_probs)
    monkeypatch.setattr(classify, "FITTED", 30)
    arguments = SimpleNamespace(calibrate="auto")
    found = classify._calibration(
        arguments, None, data, None, np.zeros((2, 3)), np.full(3, 1 / 3), 8
    )
    assert given[0].tolist() == list(range(0, 60, 2))
    assert found.count == 29 and np.isfinite(found.temperatures).all()
    assert (found.temperatures > 10).all()


def test_a_table_of_labels_is_not_overwritten(model, pictures, tmp_path, capsys):
    table, content = tmp_path / "classes.csv", "file,label\n00,bird\n"
    table.write_text(content)
    with pytest.raises(SystemExit, match="2"):
        classify.main([str(model), str(pictures), "--labels", str(table), "--out", str(table)])
    assert "out must be another file than" in capsys.readouterr().err
    assert table.read_text() == content


def test_a_model_without_labels_is_refused(tiny_run, pictures, capsys):
    with pytest.raises(SystemExit, match="2"):
        classify.main([str(tiny_run[0]), str(pictures)])
    assert "needs a model of labels (--data.labels in training)" in capsys.readouterr().err
