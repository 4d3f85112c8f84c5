"""The table of data sets, from which the settings and the loaders follow."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.data_sets import DATA_SETS, DataSet
from flowpp.config.data_settings import Source


def test_the_settings_accept_the_names_of_the_table():
    assert get_args(Source) == tuple(DATA_SETS)


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_module_has_a_loader(name):
    module = importlib.import_module(DATA_SETS[name].module)
    parameters = list(inspect.signature(module.load).parameters)
    if DATA_SETS[name].kept_decoded:
        assert parameters == ["config", "allocate"]
        assert list(inspect.signature(module.files).parameters) == ["config"]
    else:
        assert len(parameters) == 1


BUNDLED = [DataConfig(source=name) for name, entry in DATA_SETS.items() if entry.bundled]


@pytest.mark.parametrize(
    "config",
    [
        *BUNDLED,
        *(replace(config, size=4) for config in BUNDLED),
        DataConfig(source="photos", size=16, bits=5),
    ],
)
def test_declared_shapes_are_those_of_the_data(config):
    images = data.load(config)
    assert data.declared_shape(config) == (images.shape, images.levels)


def test_a_folder_declares_the_shape_in_the_settings():
    config = DataConfig(source="folder", size=16, channels=1, bits=5)
    assert data.declared_shape(config) == ((1, 16, 16), 32)
    with pytest.raises(ValueError, match="folder needs data.size, got none"):
        data.declared_shape(replace(config, size=None))


@pytest.mark.parametrize("trailing", [(), (1,)])
def test_a_line_of_the_table_suffices_for_an_npz(tmp_path, monkeypatch, trailing):
    entry = DataSet("flowpp.data.npz_images", (1, 5, 4), levels=17)
    monkeypatch.setitem(DATA_SETS, "digits", entry)
    arrays = {
        name: np.random.default_rng(count).integers(0, 17, (count, 5, 4, *trailing), np.uint8)
        for name, count in [("train", 3), ("test", 2), ("valid", 1)]
    }
    np.savez(tmp_path / "images.npz", **arrays)
    config = DataConfig(source="digits", path=str(tmp_path / "images.npz"))
    images = data.load(config)
    assert (images.name, images.levels, images.shape) == ("digits", 17, (1, 5, 4))
    assert np.array_equal(images.train.squeeze(1), arrays["train"].reshape(3, 5, 4))
    assert np.array_equal(images.test.squeeze(1), arrays["test"].reshape(2, 5, 4))
    valid = data.load(replace(config, held_out="valid"))
    assert valid.name == "digits, valid" and len(valid.test) == 1
    monkeypatch.setitem(DATA_SETS, "digits", replace(entry, shape=(1, 4, 4)))
    got = re.escape(str(arrays["train"].shape))
    with pytest.raises(ValueError, match=rf"shape \(N, 4, 4\) or \(N, 4, 4, 1\), got {got}"):
        data.load(config)
