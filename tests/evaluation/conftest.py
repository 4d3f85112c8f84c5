"""A run of two steps."""

from __future__ import annotations

import shutil

import pytest

from flowpp import train

SMALL = [
    f"--model.{flow}.{setting}"
    for flow in ("flow", "dequantizer")
    for setting in ("layout=columns 1", "filters=4", "blocks=1", "components=2")
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Read it, do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train.main(["digits", *SMALL, "--training.steps", "2", "--out", str(out)])
    return out


@pytest.fixture
def copy(trained, tmp_path):
    """A run that a test may write into."""
    return shutil.copytree(trained, tmp_path / "run")
