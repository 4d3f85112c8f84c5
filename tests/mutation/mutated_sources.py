"""Plugin of pytest: the C++ kernels are built from the folder in FLOWPP_MUTATED_SOURCES."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowpp.kernels.build_error import BuildError
from flowpp.kernels.cpu import build


def pytest_configure(config: pytest.Config) -> None:
    """Build every library, or end the session where one does not compile."""
    build.FOLDER = Path(os.environ["FLOWPP_MUTATED_SOURCES"])
    try:
        for source in sorted(build.FOLDER.glob("*.cpp")):
            build.library(source.name)
    except BuildError as error:
        raise pytest.UsageError(f"mutant does not compile: {error}") from None
