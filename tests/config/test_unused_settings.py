"""Settings of the data that would have no effect are refused, where they were given."""

from __future__ import annotations

import pytest

from flowpp.config import DataConfig
from flowpp.config.unused_settings import OWN_IMAGES, check_used
from flowpp.train import read_arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--data.channels", "3"],
         r"data\.channels is for data\.source folder, got 3 for digits"),
        (["photos", "--data.split", "fifth"], r"data\.split is for data\.source folder"),
        (["cifar10", "--data.path", "x", "--data.skip-bad"], "data.skip_bad .* got True"),
        (["small", "--data.path", "x", "--data.held-out", "valid"],
         r"data\.held_out is for data\.source cifar10, got valid for folder"),
        (["digits", "--data.partial"], "data.partial is for data.source imagenet32 or imagenet64"),
        (["cifar10", "--data.path", "x.tar.gz", "--data.held-out", "valid"],
         r"data\.held_out valid needs an \.npz with an array valid, got x\.tar\.gz"),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        read_arguments(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cifar10", "--data.path", "x.npz", "--data.held-out", "valid"],
        ["small", "--data.path", "x", "--data.split", "fifth", "--data.channels", "1"],
        ["imagenet32", "--data.path", "x", "--data.partial"],
        ["digits", "--data.source", "folder", "--data.path", "x", "--data.crop", "random"],
    ],
)
def test_a_setting_that_is_used_is_accepted(arguments):
    assert read_arguments(arguments).config.data != DataConfig()


def test_settings_left_from_another_data_set_are_accepted():
    """A run that is fine-tuned on other images keeps the settings it does not use."""
    former = DataConfig(source="folder", path="x", channels=3, convert=False, size=16)
    check_used(former, DataConfig(source="digits", channels=3, convert=False))


def test_the_settings_exist():
    assert set(OWN_IMAGES) <= set(vars(DataConfig()))
