"""Files of a run that this user may not read: the error says so."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowpp.config.build import build_model
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.environment import check_images
from flowpp.runs.open_model import model_facts, open_model
from flowpp.runs.run import Run
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training.initial_weights import start_as_recorded
from tiny import TINY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
NOBODY = 65534


@pytest.fixture
def run():
    folder = Path(tempfile.mkdtemp())  # unlike pytest's own, its parents are open to all
    folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        model = build_model(TINY.model, (1, 8, 8), 17)
        run = Run.create(folder / "run", TINY, {"data": {"sha256": None}})
        facts = model_facts(TINY, (1, 8, 8), 17)
        run.save(Checkpoint(3, model.state_dict(), {}, {}, facts))
        run.keep_as_best(3)
        run.append_record({"step": 1})
        (run.path / "result.json").write_text("{}")
        yield run
    finally:
        os.umask(before)
        shutil.rmtree(folder)


@contextmanager
def denied(path: Path):
    """Take the permission to read from this user; from root it cannot be taken."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    if root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(mode)


READERS = {
    "config.json": lambda run: Run.open(run.path).config(),
    "environment.json": lambda run: check_images(run.path, None, (1, 8, 8), 17),
    "result.json": lambda run: run.facts("result.json"),
    "metrics.jsonl": lambda run: run.metrics(),
    "checkpoints": lambda run: open_model(run.path),
    "checkpoints/step-00000003.safetensors": lambda run: open_model(run.path),
    "checkpoints/best.safetensors": lambda run: open_model(run.path, which="best"),
}


@pytest.mark.parametrize("name", READERS)
def test_permission_denied_is_said_as_such(run, name):
    with denied(run.path / name):
        with pytest.raises(OSError, match=f"Permission denied.*{name}"):
            READERS[name](run)


def test_other_readers_of_the_environment(run):
    with denied(run.path / "environment.json"):
        with pytest.raises(PermissionError):
            start_as_recorded(run, None, SINGLE_PROCESS)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
def test_another_user_reads_what_the_umask_allows(run):
    os.seteuid(NOBODY)
    try:
        assert open_model(run.path).checkpoint.step == 3
        assert open_model(run.path, which="best").checkpoint.step == 3
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_every_file_has_the_permissions_of_the_umask(run, umask):
    os.umask(umask)
    shutil.rmtree(run.path / "checkpoints")
    run.save(Checkpoint(4, {}, {}))
    run.keep_as_best(4)
    for file in (run.path / "checkpoints").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file
