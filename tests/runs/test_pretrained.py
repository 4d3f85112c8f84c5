"""Pretrained models: the package's files and what they reach, and how a name finds its file."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import flowpp
from flowpp.runs import pretrained
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import load_images
from flowpp.runs.pretrained import check_name, file_of, find_model, is_pretrained, names

LARGEST_TOTAL = 8 << 20
"""Bytes of all files together."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "pretrained.md"

# ---- the files of the package


def test_digits_are_in_the_package():
    assert "digits" in names()
    assert sum(file_of(name).stat().st_size for name in names()) < LARGEST_TOTAL


@pytest.mark.parametrize("name", names())
def test_a_file_holds_rounded_weights_and_a_receipt(name):
    checkpoint = Checkpoint.load(file_of(name))  # which verifies its hash
    sizes = Counter()
    for tensor in checkpoint.weights.values():
        sizes[tensor.dtype] += tensor.numel()
    assert sizes[torch.bfloat16] > 0.9 * sizes.total()
    assert not checkpoint.ema and not checkpoint.state
    assert checkpoint.facts["name"] == name
    assert checkpoint.facts["config"]["data"]["path"] is None
    receipt = checkpoint.facts["receipt"]
    assert receipt["steps"] == checkpoint.step > 0
    assert receipt["data"]["sha256"] == checkpoint.facts["data_sha256"]
    assert receipt["bounds"][0]["importance_samples"] == 1
    assert receipt["bounds"][0]["count"] == receipt["data"]["held_out"]
    assert "/" not in receipt["data"]["name"]


@pytest.mark.parametrize("name", names())
def test_synthetic_images_have_finite_bounds(name):
    model = flowpp.load(name)
    channels, height, width = model.image_shape
    rng = np.random.default_rng(0)
    noise = rng.integers(0, model.levels, model.image_shape)
    black = np.zeros(model.image_shape)
    grey = np.full(model.image_shape, model.levels // 2)
    ramp = np.linspace(0, model.levels - 1, width).round()
    images = np.stack([noise, black, grey, np.broadcast_to(ramp, (channels, height, width))])
    bits = model.bits_per_dim(images.astype(int))
    assert (bits > 0).all() and (bits < 64).all()
    assert bits[0] > np.log2(model.levels), "noise must cost more than in a uniform distribution"
    assert bits[1] < bits[0], "a black image must cost less than noise"


@pytest.mark.parametrize("name", names())
def test_samples_are_typical_of_the_model(name):
    model = flowpp.load(name)
    drawn = model.sample(8, seed=1)
    assert drawn.shape == (8, *model.image_shape) and drawn.max() < model.levels
    bound = model.receipt["bounds"][0]
    assert model.bits_per_dim(drawn).mean() == pytest.approx(bound["mean"], rel=0.35)


def test_digits_reach_what_their_receipt_says():
    model = flowpp.load("digits")
    images = load_images(model.config)
    recorded = model.receipt
    assert images.sha256 == recorded["data"]["sha256"]
    bits = model.bits_per_dim(images.test, seed=recorded["seed"])
    bound = recorded["bounds"][0]
    assert len(bits) == bound["count"] == 297
    # Other processors round sums in float32 in another order.
    assert bits.mean() == pytest.approx(bound["mean"], abs=1e-5)
    error = bits.std(ddof=1) / np.sqrt(len(bits))
    assert error == pytest.approx(bound["standard_error"], abs=1e-5)
    assert abs(bound["mean"] - recorded["before_rounding"]) < 0.0005


@pytest.mark.parametrize("name", names())
def test_the_page_gives_the_receipt_s_figures(name):
    bound = flowpp.load(name).receipt["bounds"][0]
    rows = [row for row in DOCUMENT.read_text().splitlines() if row.startswith(f"| `{name}`")]
    assert len(rows) == 1
    figures = re.findall(r"(\d\.\d+) ± (\d\.\d+)", rows[0])
    assert (f"{bound['mean']:.3f}", f"{bound['standard_error']:.3f}") == figures[0]


# ---- names


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_finds_its_file(here):
    assert find_model(Path("digits")) == file_of("digits")
    assert is_pretrained(Path("digits"))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_path_comes_before_a_name_and_says_so(here, kind, capsys):
    path = Path("digits")
    path.mkdir() if kind == "folder" else path.touch()
    said = []
    assert find_model(path, said.append) == path and not is_pretrained(path)
    (line,) = said
    assert line.startswith(f"digits is the {kind} of that name; the pretrained model is ")
    assert str(file_of("digits")) in line
    find_model(path)
    assert capsys.readouterr().err == line + "\n"


def test_the_ambiguity_is_a_warning_in_python(here):
    Path("digits").mkdir()
    with (
        pytest.warns(UserWarning, match="the pretrained model is"),
        pytest.raises(ValueError, match="digits is not a run directory"),
    ):
        flowpp.load("digits")


def test_another_path_is_no_ambiguity(here, tiny_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flowpp.load(tiny_run[0])


def test_an_unknown_name_lists_the_known_ones(here):
    with pytest.raises(FileNotFoundError) as error:
        flowpp.load("digit")
    message = str(error.value)
    assert message.startswith("no run directory at digit and no pretrained model of that name")
    assert all(name in message for name in names())
    assert message.endswith("did you mean 'digits'?")


@pytest.mark.parametrize("path", ["runs/digits", "digits.safetensors", "./elsewhere/digits"])
def test_a_path_is_not_a_name(here, path):
    assert find_model(Path(path)) == Path(path)


def test_without_the_files_none_is_listed(here, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", here / "nothing")
    assert names() == []
    with pytest.raises(FileNotFoundError, match="the package has no pretrained models"):
        flowpp.load("digits")


@pytest.mark.parametrize("name", ["", "Digits", "a/b", "..", "a.b", "-a", "a-", "1a", "a b"])
def test_names_have_a_form(name):
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}")):
        check_name(name)
    check_name("cifar10-small")
