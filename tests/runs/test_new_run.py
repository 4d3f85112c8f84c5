"""Run directories that are named by the time."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from flowpp.runs import run
from flowpp.runs.run import IMAGES, Run, create_default_out
from tiny import TINY


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


def test_of_processes_that_create_one_run_one_trains_in_it_with_its_own_settings(tmp_path):
    start = threading.Barrier(8)

    def create(number):
        config = dataclasses.replace(TINY, preset=f"preset-{number}")
        start.wait()
        try:
            with Run.create_locked(tmp_path / "run", config, {"number": number}) as created:
                time.sleep(0.05)  # the others try meanwhile
                return created.config().preset, created.facts("environment.json")["number"]
        except (BlockingIOError, ValueError) as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(create, range(8)))
    trained = [result for result in results if isinstance(result, tuple)]
    assert len(trained) == 1 and trained[0][0] == f"preset-{trained[0][1]}"
    errors = {str(result) for result in results if not isinstance(result, tuple)}
    assert all("another process is training" in e or "must be new or empty" in e for e in errors)


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(ValueError, match="must be new or empty"):
        with Run.create_locked(tmp_path, TINY, {}):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_moved_run_finds_the_images_that_it_keeps(tmp_path):
    data = dataclasses.replace(TINY.data, source="folder", path=str(tmp_path / "old" / IMAGES))
    run = Run.create(tmp_path / "old", dataclasses.replace(TINY, data=data), {})
    (run.path / IMAGES).touch()
    moved = Run(run.path.rename(tmp_path / "new"))
    assert moved.config().data.path == str(tmp_path / "new" / IMAGES)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs of POSIX")
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "samples"])
def test_entries_that_are_written_to_must_be_files_and_folders(tmp_path, name):
    run = Run.create(tmp_path / "run", TINY, {})
    if name == "samples":
        (run.path / name).rmdir()
    os.mkfifo(run.path / name)
    with pytest.raises(ValueError, match=f"{name} must be a .*, got something else"):
        Run.open(run.path)
    if name == ".lock":
        with pytest.raises(ValueError, match=".lock must be a regular file, got a FIFO"):
            with run.locked():
                pass
