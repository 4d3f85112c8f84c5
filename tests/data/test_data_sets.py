"""The table of data sets, from which the settings and the loaders follow."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import get_args

import pytest

from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.data_sets import DATA_SETS
from flowpp.config.settings import Source


def test_the_settings_accept_the_names_of_the_table():
    assert get_args(Source) == tuple(DATA_SETS)


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_module_has_a_loader(name):
    load = importlib.import_module(DATA_SETS[name].module).load
    assert len(inspect.signature(load).parameters) == 1


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
    with pytest.raises(ValueError, match="folder needs --data.size, got none"):
        data.declared_shape(replace(config, size=None))
