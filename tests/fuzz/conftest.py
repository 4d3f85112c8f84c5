"""A guard around every reading: what it runs, what it writes, what it takes, what it says."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

MEMORY = 700
"""Megabytes by which a file may raise the process's peak: two images at Pillow's own limit."""
RUNS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen")
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile",
)  # fmt: skip
PICKLES = ("pickle.find_class", "socket.connect")

_watched: list[tuple[str, tuple]] | None = None


def _hook(event: str, arguments: tuple) -> None:
    """Hooks cannot be removed: this one looks on only while something is read."""
    if _watched is None:
        return
    wrote = event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3
    if wrote or event in (*RUNS, *CHANGES, *PICKLES):
        _watched.append((event, arguments))


sys.addaudithook(_hook)


class Guard:
    """Reads a file that may be damaged or hostile."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.refused: str | None = None

    @contextmanager
    def reading(self, *names: str):
        """The block may succeed, or raise an error that names one of these.

        Nothing may be run, nothing written outside the test's own folder's `run`.
        """
        global _watched
        _watched, self.refused, before = [], None, _peak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                yield
        except (ValueError, TypeError, OSError) as error:
            self.refused = f"{type(error).__name__}: {error}"
            assert any(name in str(error) for name in names), self.refused
            assert len(str(error)) < 20_000
        finally:
            seen, _watched = _watched, None
        inside = str(self.place / "run") + os.sep
        for event, arguments in seen:
            paths = [str(a) for a in arguments if isinstance(a, str | os.PathLike)]
            outside = [p for p in paths if os.sep in p and not p.startswith(inside)]
            harmless = event in ("open", *CHANGES) and all("__pycache__" in p for p in outside)
            assert harmless, (event, arguments)
        assert _peak() - before < MEMORY


def _peak() -> float:
    """Megabytes; kilobytes on Linux, bytes elsewhere."""
    unit = 1 << 10 if sys.platform == "linux" else 1 << 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@pytest.fixture
def guard(tmp_path):
    return Guard(tmp_path)
