"""A model so small that a run of it takes a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import TINY

from flowpp.config import Config
from flowpp.training import Result, train


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Settings of a three-step run."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished three-step run: read it, do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, train(TINY, out)
