"""Fixtures and markers shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import hypothesis
import pytest
import torch

from flowpp import train as train_command
from flowpp.config import Config
from flowpp.training.loop import train
from flowpp.training.result import Result
from tiny import TINY

TESTS = Path(__file__).parent
SMALL = [
    f"--model.{flow}.{setting}"
    for flow in ("flow", "dequantizer")
    for setting in ("layout=columns 1", "filters=4", "blocks=1", "components=2")
]

LONGEST = (
    "gpu/test_emulated_cuda.py",
    "seeded_bugs/test_seeded_bugs.py",
    "kernels/test_compile.py",
    "conformance/test_pytest_plugin.py",
    "conformance/test_workers.py",
    "commands/test_broken_pipe.py",
    "training/test_distributed.py",
    "kernels/test_kernels.py",
    "training/test_unread_steps.py",
    "training/test_killed.py",
    "commands/test_from_a_shell.py",
)
"""Files that processes of pytest-xdist begin with, so that all end at about the same time."""

# The same examples in every run, so that failures are reproducible.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option to run tests marked `gpu` without a GPU."""
    parser.addoption(
        "--emulate-cuda",
        action="store_true",
        help="run tests marked gpu on an emulated CUDA device, see tests/helpers/emulated_cuda.py",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the emulated device before anything is computed."""
    if config.getoption("--emulate-cuda"):
        import emulated_cuda

        emulated_cuda.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip `slow` and `soak` tests unless selected, and `gpu` tests without a GPU."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.path))
    emulated = config.getoption("--emulate-cuda")
    without_gpu = pytest.mark.skip(reason="needs a CUDA device")
    hardware = pytest.mark.skip(reason="needs a CUDA device itself, not an emulated one")
    slow = pytest.mark.skip(reason="takes minutes: run with -m slow")
    soak = pytest.mark.skip(reason="endurance test: run with -m soak")
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(without_gpu)
        if "hardware" in item.keywords and emulated:
            item.add_marker(hardware)
        if "slow" in item.keywords and not config.getoption("-m"):
            item.add_marker(slow)
        if "soak" in item.keywords and "soak" not in config.getoption("-m"):
            item.add_marker(soak)


def _rank(path: Path) -> int:
    """Return the place of a file among the longest, the same for all others."""
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Device to compute on: the CPU and, in tests marked `gpu`, a CUDA device."""
    return request.param


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Settings of a three-step run."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished three-step run and its result; read-only."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, train(TINY, out)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished two-step run of the command line; read-only."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train_command.main(["digits", *SMALL, "--training.steps", "2", "--out", str(out)])
    return out


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A writable copy of `trained`."""
    return shutil.copytree(trained, tmp_path / "run")
