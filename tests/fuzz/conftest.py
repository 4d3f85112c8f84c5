"""A guard for reading untrusted files: nothing run, nothing written, memory bounded."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowpp.data import cifar10, imagenet
from image_files import COUNT

MAX_MEGABYTES = 700
"""Limit on the growth of peak memory: two images at Pillow's own limit."""
PROCESS_EVENTS = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
)  # fmt: skip
WRITE_EVENTS = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile",
)  # fmt: skip
FORBIDDEN_EVENTS = (*PROCESS_EVENTS, *WRITE_EVENTS, "pickle.find_class", "socket.connect")

_recorded: list[tuple[str, tuple]] | None = None


def _hook(event: str, arguments: tuple) -> None:
    """Record forbidden events while a guard is active; audit hooks cannot be removed."""
    if _recorded is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3
    if writes or event in FORBIDDEN_EVENTS:
        _recorded.append((event, arguments))


sys.addaudithook(_hook)


class Guard:
    """Watch code that reads untrusted files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: str | None = None

    @contextmanager
    def reading(self, *names: str):
        """Let the block succeed, or raise an error that contains one of the names.

        It may run nothing, and write only inside the test folder's `run`.
        """
        global _recorded
        _recorded, self.refused, before = [], None, _peak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                yield
        except (ValueError, TypeError, OSError) as error:
            self.refused = f"{type(error).__name__}: {error}"
            assert any(name in str(error) for name in names), self.refused
            assert len(str(error)) < 20_000
        finally:
            recorded, _recorded = _recorded, None
        inside = str(self.folder / "run") + os.sep
        for event, arguments in recorded:
            paths = [str(a) for a in arguments if isinstance(a, str | os.PathLike)]
            outside = [p for p in paths if os.sep in p and not p.startswith(inside)]
            caching = all("__pycache__" in p for p in outside)
            assert caching and event in ("open", *WRITE_EVENTS), (event, arguments)
        assert _peak() - before < MAX_MEGABYTES


def _peak() -> float:
    """Return peak memory in megabytes; the system counts kilobytes on Linux, bytes elsewhere."""
    unit = 1 << 10 if sys.platform == "linux" else 1 << 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@pytest.fixture
def guard(tmp_path):
    return Guard(tmp_path)


@pytest.fixture
def few_images(monkeypatch):
    """Accept data sets of a few images."""
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", COUNT)
    monkeypatch.setattr(imagenet, "NPZ_BATCHES", 1)
