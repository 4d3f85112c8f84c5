"""Run directories that are named by the time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from flowpp.runs import run
from flowpp.runs.run import create_default_out


@pytest.fixture
def one_second(monkeypatch, tmp_path):
    """Let all runs start in the same second, in a folder of their own."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run, "datetime", Clock)
    monkeypatch.chdir(tmp_path)


def test_runs_of_the_same_second_have_folders_of_their_own(one_second):
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(create_default_out, ["digits"] * 40))
    assert len(set(folders)) == 40
    assert {folder.name for folder in folders} == {"digits-20260102-030405"} | {
        f"digits-20260102-030405-{n}" for n in range(2, 41)
    }
    assert all(folder.is_dir() for folder in folders)


def test_a_folder_that_cannot_be_created_is_an_error(one_second, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs"):
        create_default_out("digits")
