"""Resumed runs may find their labels and contexts in other files, but need the same ones."""

from __future__ import annotations

import pytest

from flowpp.config import Config, DataConfig
from flowpp.training import resume


def settings(**data):
    return Config(data=DataConfig(**data))


def test_labels_may_be_in_another_file():
    former = settings(labels="a.csv")
    resume.check_settings(former, settings(labels="b.csv"))
    for other in (settings(), settings(context="grey")):
        with pytest.raises(
            ValueError, match="data.labels is a.csv in the run and cannot become N"
        ):
            resume.check_settings(former, other)
    with pytest.raises(
        ValueError, match="data.labels is None in the run and cannot become folder"
    ):
        resume.check_settings(settings(), settings(labels="folder"))
    resume.check_settings(settings(context="a"), settings(context="b"))
