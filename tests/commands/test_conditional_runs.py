"""train, evaluate, sample and report with runs of conditional models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conditional_images import LEVELS, NAMES, SIDE, conditional_images
from PIL import Image

from flowpp import data, evaluate, report, sample, train
from flowpp.config import DataConfig
from flowpp.evaluation import sampling
from flowpp.runs.open_model import open_model
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.loop import train as train_run
from flowpp.training.setup import prepare
from tiny import TINY

LABELLED = ["digits", "--data.labels", "folder", "--model.flow.layout", "columns 1",
            "--model.dequantizer.layout", "columns 1"]  # fmt: skip
SHORT = ["--training.steps", "2", "--training.evaluate_every", "2", "--training.batch_size", "8",
         "--training.init_batch_size", "16", "--training.sample_count", "20"]  # fmt: skip
SMALL = [f"--model.{part}.{name}" for part in ("flow", "dequantizer")
         for name in ("filters=4", "blocks=1", "components=2")]  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of labelled digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    train.main([*LABELLED, *SMALL, *SHORT, "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Short runs on toy images, by the kind of their contexts."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    config = replace(
        TINY,
        model=replace(TINY.model, flow=replace(TINY.model.flow, layout="checkerboard 1")),
        training=replace(TINY.training, steps=1, init_batch_size=16),
    )
    for kind in ("vectors", "images", "mask", "labels"):
        made[kind] = folder / kind
        train_run(config, made[kind], prepare(config, images=conditional_images(kind)))
    return made


def drawn(run, out, *arguments):
    sample.main([str(run), "--out", str(out), *map(str, arguments)])
    with np.load(out.with_suffix(".npz")) as file:
        return {name: file[name] for name in file.files}


def refused(capsys, run, *arguments, main=sample.main):
    with pytest.raises(SystemExit):
        main([str(run), *map(str, arguments)])
    return capsys.readouterr().err


def test_training_shows_classes_and_the_bound_without_label(digits, capsys):
    result = json.loads((digits / "result.json").read_text())
    assert set(result["per_class"]) == set("0123456789")
    assert sum(row["count"] for row in result["per_class"].values()) == 297
    assert result["without_label"] > 0
    with Image.open(digits / "samples" / "step-00000002.png") as picture:
        assert picture.height > 4 * picture.width  # ten rows of two digits


def test_evaluate_prints_a_table_of_classes(digits, tmp_path, capsys):
    out = tmp_path / "receipt.json"
    evaluate.main([str(digits), "--out", str(out)])
    printed = capsys.readouterr().out
    result = json.loads((digits / "result.json").read_text())
    own = json.loads(out.read_text())
    assert own["bounds"][0]["mean"] == result["bits_per_dim"]
    assert own["per_class"] == result["per_class"]
    assert own["context"]["names"] == list("0123456789") and own["context"]["label"] is None
    for name, row in own["per_class"].items():
        assert f"label {name} " in printed and f"{row['bits_per_dim']:.4f}" in printed
    evaluate.main([str(digits), "--out", str(out), "--label", "none"])
    without = json.loads(out.read_text())
    assert without["bounds"][0]["mean"] == result["without_label"]
    assert without["context"]["label"] == "none" and "per_class" not in without


def test_evaluate_refuses_what_does_not_fit(digits, tiny_run, capsys):
    assert "got 'nine'" in refused(capsys, digits, "--label", "nine", main=evaluate.main)
    assert "label" in refused(capsys, tiny_run[0], "--label", "none", main=evaluate.main)
    message = refused(capsys, digits, "--fingerprint", main=evaluate.main)
    assert "--fingerprint must be of an unconditional model" in message


def test_a_labelled_run_is_sampled_by_rows_of_classes(digits, tmp_path):
    arrays = drawn(digits, tmp_path / "all.png", "--count", 3)
    assert arrays["images"].shape == (30, 1, 8, 8)
    np.testing.assert_array_equal(arrays["contexts"], np.arange(10).repeat(3))
    opened = open_model(digits)
    expected = sampling.sample(
        opened.model, (1, 8, 8), 30, seeded_generator(0), contexts=arrays["contexts"]
    )
    np.testing.assert_array_equal(arrays["images"], expected)
    three = drawn(digits, tmp_path / "three.png", "--label", "3", "--count", 5)
    assert three["images"].shape[0] == 5 and (three["contexts"] == 3).all()
    none = drawn(digits, tmp_path / "none.png", "--label", "none", "--count", 5, "--plain")
    assert (none["contexts"] == 10).all()
    assert (none["images"] != three["images"]).any()  # from the same z
    assert drawn(digits, tmp_path / "default.png")["images"].shape[0] == 80


def test_unknown_labels_are_named(runs, tiny_run, capsys):
    message = refused(capsys, runs["labels"], "--label", "caat")
    assert "'caat'; did you mean 'cat'?" in message and "cat, dog, owl, or none" in message
    assert "label" in refused(capsys, tiny_run[0], "--label", "cat")
    assert "label" in refused(capsys, runs["vectors"], "--label", "cat")
    assert "context" in refused(capsys, tiny_run[0], "--context", "x.png")
    assert "context" in refused(capsys, runs["labels"], "--context", "x.png")


def test_vectors_from_files(runs, tmp_path, capsys):
    rows = np.array([[1.0, 2.0], [3.0, 4.5]])
    np.savetxt(tmp_path / "two.csv", rows, delimiter=",")
    np.save(tmp_path / "two.npy", rows)
    found = [drawn(runs["vectors"], tmp_path / "out.png", "--count", 3, "--context",
                   tmp_path / f"two.{kind}") for kind in ("csv", "npy")]  # fmt: skip
    assert found[0]["images"].shape == (6, 1, SIDE, SIDE)
    np.testing.assert_array_equal(found[0]["contexts"], rows.repeat(3, axis=0))
    np.testing.assert_array_equal(found[0]["images"], found[1]["images"])
    np.save(tmp_path / "one.npy", rows[1])
    one = drawn(runs["vectors"], tmp_path / "out.png", "--context", tmp_path / "one.npy")
    assert one["contexts"].tolist() == [[3.0, 4.5]] * 64
    assert "a vector of 2 numbers" in refused(capsys, runs["vectors"])
    for content, expected in (
        ("1,2,3\n", "2 finite numbers, got shape (1, 3)"),
        ("one,two\n", "2 numbers a line"),
        ("nan,1\n", "got NaN"),
    ):
        (tmp_path / "bad.csv").write_text(content)
        message = refused(capsys, runs["vectors"], "--context", tmp_path / "bad.csv")
        assert expected in message


def test_images_from_files(runs, tmp_path, capsys):
    pixels = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * (256 // LEVELS)
    Image.fromarray(pixels).save(tmp_path / "context.png")
    arrays = drawn(runs["images"], tmp_path / "out.png", "--count", 3, "--context",
                   tmp_path / "context.png")  # fmt: skip
    assert arrays["images"].shape == (3, 1, SIDE, SIDE)
    levels = pixels // (256 // LEVELS)
    np.testing.assert_array_equal(arrays["contexts"], np.tile(levels, (3, 1, 1, 1)))
    message = refused(capsys, runs["mask"], "--context", tmp_path / "context.png")
    assert "python -m flowpp.complete" in message


def test_the_report_shows_classes(digits):
    report.main([str(digits)])
    page = (digits / "report.html").read_text()
    result = json.loads((digits / "result.json").read_text())
    assert "held-out images, and below each its reconstruction" in page
    assert "with label none" in page and "<h2>Classes</h2>" in page
    assert f"{result['per_class']['7']['bits_per_dim']:.4f}" in page


def test_evaluate_a_run_of_masks(tmp_path):
    """Masks of held-out images are the same in training's end and evaluate."""
    out, receipt = tmp_path / "run", tmp_path / "receipt.json"
    train.main(["digits", "--data.context", "mask", *SMALL, *SHORT, "--training.steps", "1",
                "--model.flow.layout", "columns 1", "--out", str(out)])  # fmt: skip
    evaluate.main([str(out), "--out", str(receipt)])
    result, own = (json.loads(f.read_text()) for f in (out / "result.json", receipt))
    assert own["bounds"][0]["mean"] == result["bits_per_dim"]
    assert result["per_class"] is None and own["context"]["source"] == "mask"
    assert data.load(DataConfig(context="mask")).context.shape == (2, 8, 8)
    assert NAMES == conditional_images("labels").context.names


def test_evaluate_other_images_with_labels(digits, tmp_path, capsys):
    """From folders called like the classes, from a CSV, or one label for all."""
    images = data.load(DataConfig(labels="folder"))
    rows = [(f"{label}/{i}.png", label) for i, label in enumerate(images.context_of("test")[:6])]
    for i, (name, _) in enumerate(rows):
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.test[i, 0]).save(tmp_path / "other" / name)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("".join(f"{name},{(label + 1) % 10}\n" for name, label in rows))
    flags = [str(digits), "--data.path", str(tmp_path / "other"), "--other-data"]
    bounds = {}
    for given in ([], ["--labels", str(wrong)], ["--label", "none"]):
        out = tmp_path / "receipt.json"
        evaluate.main([*flags, "--out", str(out), *given])
        receipt = json.loads(out.read_text())
        bounds[" ".join(given[:1])] = receipt["bounds"][0]["mean"]
        if not given:
            assert {*receipt["per_class"]} == {str(label) for _, label in rows}
    assert len({*bounds.values()}) == 3
    both = ["--label", "3", "--labels", str(wrong)]
    assert "exclude each other" in refused(capsys, *flags, *both, main=evaluate.main)
    context = ["--context", str(wrong)]
    assert "context must be left out" in refused(capsys, *flags, *context, main=evaluate.main)
    assert "labels needs other_data" in refused(
        capsys, digits, "--labels", wrong, main=evaluate.main
    )
