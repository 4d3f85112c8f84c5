"""Opening trained models, from run directories and checkpoint files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from flowpp.config import Config, DataConfig
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.environment import check_images
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run
from flowpp.runtime.hashing import weights_hash


def weights_of(opened):
    return opened.model.state_dict()


def test_a_run_and_its_checkpoint_file_give_the_same_model(trained):
    run = Run.open(trained)
    from_run, from_file = open_model(trained), open_model(run.checkpoint_files()[-1])
    assert from_run.config == from_file.config == run.config()
    assert from_run.image_shape == from_file.image_shape == (1, 8, 8)
    assert from_run.model.levels == 17 and not from_run.model.training
    expected = run.load_checkpoint().selected_weights(average=True)
    for opened in (from_run, from_file):
        assert all(torch.equal(expected[name], t) for name, t in weights_of(opened).items())


def test_a_checkpoint_chosen_by_the_hash_of_its_weights(copy):
    run = Run.open(copy)
    first = Checkpoint.load(run.checkpoint_files()[0])
    opened = open_model(copy, weights_sha256=weights_hash(first.selected_weights(average=True)))
    assert opened.checkpoint.step == first.step < run.load_checkpoint().step
    with pytest.raises(ValueError, match="no checkpoint of .* has weights with hash 0123"):
        open_model(copy, weights_sha256="0123" * 16)


def test_a_damaged_newest_checkpoint_is_an_error_unless_warnings_are_taken(copy):
    *_, former, newest = Run.open(copy).checkpoint_files()
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{newest.name} is truncated or damaged"):
        open_model(copy)
    warnings = []
    assert open_model(copy, warn=warnings.append).checkpoint.step == Checkpoint.load(former).step
    assert len(warnings) == 1 and newest.name in warnings[0]


def test_given_settings_replace_the_stored_ones(copy):
    config = Run.open(copy).config()
    flow = dataclasses.replace(config.model.flow, filters=8)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, flow=flow))
    with pytest.raises(ValueError, match="belongs to another model"):
        open_model(copy, config=other)


@pytest.mark.parametrize("name", ["none", "none.safetensors"])
def test_missing_paths(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        open_model(tmp_path / name)


def test_only_the_images_of_the_run_are_accepted(copy):
    images = load_images(Run.open(copy).config())
    check_images(copy, images, images.shape, images.levels)
    other = ImageSet("other", images.train, images.test[1:], images.levels)
    with pytest.raises(ValueError, match=r"trained on data with hash \w{12}\.\.\., got other"):
        check_images(copy, other, images.shape, images.levels)


def test_images_of_converted_runs_need_the_same_shape_and_levels(copy):
    (copy / "environment.json").write_text(json.dumps({"data": {"sha256": None}}))
    array = np.zeros((1, 1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\) and 17 levels, got other .*4, 4"):
        check_images(copy, ImageSet("other", array, array, 17), (1, 8, 8), 17)


def test_labels_and_contexts_that_moved_with_the_images(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "set").mkdir(parents=True)
    (before / "pairs").mkdir()
    for number in range(9):
        for name in ("set", "pairs"):
            pixels = np.full((8, 8), 9 * number + (name == "set"), np.uint8)
            Image.fromarray(pixels).save(before / name / f"{number}.png")
    table = "\n".join(f"{number}.png,{number % 2}" for number in range(9))
    (before / "labels.csv").write_text(table)
    source = DataConfig(source="folder", path=str(before / "set"), size=8, channels=1)
    for settings in ({"labels": str(before / "labels.csv")}, {"context": str(before / "pairs")}):
        config = Config(data=dataclasses.replace(source, **settings))
        assert not after.exists()
        expected = load_images(config)
        before.rename(after)
        moved = load_images(config, str(after / "set"))
        assert moved.sha256 == expected.sha256 and moved.context == expected.context
        with pytest.raises(FileNotFoundError, match="where nothing is"):
            load_images(config, str((after / "set").rename(tmp_path / "alone")))
        (tmp_path / "alone").rename(after / "set")
        after.rename(before)


def test_words_of_labels_and_contexts_stay_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before" / "set").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(f"before/set/{number}.png")
    for word in ("grey", "folder"):
        (tmp_path / "before" / word).mkdir()
    source = DataConfig(source="folder", path="former/set", size=8, channels=3)
    # From former/set, `grey` here is ../../grey, which from before/set/more is before/grey.
    config = Config(data=dataclasses.replace(source, context="grey"))
    (tmp_path / "before" / "set" / "more").symlink_to(".")
    assert load_images(config, "before/set/more").context.source == "grey"
    config = Config(data=dataclasses.replace(source, labels="folder"))
    with pytest.raises(ValueError, match="needs class folders"):
        load_images(config, "before/set/more")
