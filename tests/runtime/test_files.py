"""Atomic writes: permissions, links, and what killed processes leave behind."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flowpp.runtime.files import atomic_write, check_can_be_written, unused_path, write_json
from flowpp.runtime.locks import open_lock, try_lock
from flowpp.runtime.scratch import LOCK, sweep, sweep_after_safetensors

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and locks of POSIX")


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def writing(path, *, killed):
    """Return a process that is writing to `path`, or has been killed while it was."""
    code = (
        "import sys, time; from pathlib import Path; "
        "from flowpp.runtime.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); (temporary.parent / '.tmpAbC123').write_text('half')\n"
        "    print('writing', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    if killed:
        process.kill()
        process.communicate()
    return process


@posix
def test_files_have_the_permissions_of_the_umask(tmp_path, umask):
    write_json(tmp_path / "a.json", {})
    with atomic_write(tmp_path / "a.safetensors") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)  # its own file has 0600
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o640, file
    assert len(os.listdir(tmp_path)) == 2


def test_an_error_names_the_file_and_not_the_temporary_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*none/a\.json'$"):
        write_json(tmp_path / "none" / "a.json", {})


def test_an_error_of_a_write_names_the_file(tmp_path):
    for raised in (OSError(errno.ENOSPC, "No space"), OSError(errno.ENOSPC, "No space", "other")):
        with pytest.raises(OSError, match=r"No space: '(.*/a\.json|other)'$"):
            with atomic_write(tmp_path / "a.json"):
                raise raised
    with pytest.raises(IsADirectoryError, match=r"'.*/folder'"):
        (tmp_path / "folder").mkdir()
        write_json(tmp_path / "folder", {})
    assert os.listdir(tmp_path) == ["folder"]


@posix
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    writing(tmp_path / "a.json", killed=True)
    (left,) = os.listdir(tmp_path)
    living = writing(tmp_path / "a.json", killed=False)
    try:
        (used,) = {*os.listdir(tmp_path)} - {left}  # the next writer of a.json has swept
        write_json(tmp_path / "b.json", {})
        sweep(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([used, "b.json"])
    finally:
        living.kill()
        living.communicate()
    write_json(tmp_path / "a.json", {})
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


@posix
def test_names_like_those_of_temporary_folders(tmp_path):
    for kind in ("fifo", "link"):
        (tmp_path / f".a.{kind}.part").mkdir()
    os.mkfifo(tmp_path / ".a.fifo.part" / LOCK)
    (tmp_path / ".a.link.part" / LOCK).symlink_to("/dev/zero")
    (tmp_path / ".z.part").mkdir()
    write_json(tmp_path / "a", {})
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".a.fifo.part", ".a.link.part", "a"]


def test_files_without_a_lock_are_removed_only_when_they_are_old(tmp_path):
    (tmp_path / ".a.json.x.part").mkdir()
    sweep(tmp_path)
    assert not os.listdir(tmp_path)  # it was empty
    (tmp_path / ".a.json.x.part").mkdir()
    (tmp_path / ".a.json.x.part" / "new.json").touch()
    sweep(tmp_path)
    assert os.listdir(tmp_path)
    os.utime(tmp_path / ".a.json.x.part", (time.time() - 100,) * 2)
    sweep(tmp_path)
    assert not os.listdir(tmp_path)


@posix
def test_temporary_files_of_former_versions(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".a.json.{gone.pid}.part").touch()
    (tmp_path / f".b.json.{os.getpid()}.part").touch()
    for name in (".tmpAbC123", ".tmpAbC1234", "tmpAbC123"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    sweep_after_safetensors(tmp_path)
    left = [f".b.json.{os.getpid()}.part", ".tmpAbC1234", "tmpAbC123"]
    assert sorted(os.listdir(tmp_path)) == sorted(left)


@posix
def test_a_lock_is_a_file_of_its_own(tmp_path):
    with open_lock(tmp_path / LOCK) as one, open_lock(tmp_path / LOCK) as other:
        assert try_lock(one) is True and try_lock(other) is False
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / LOCK)
    for name in ("fifo", "link"):
        with pytest.raises(ValueError, match=f"{name} must be a regular file, got a"):
            open_lock(tmp_path / name)


def test_whether_a_file_can_be_written_is_known_without_creating_its_folder(tmp_path, monkeypatch):
    check_can_be_written(tmp_path / "a" / "b" / "c.json")
    check_can_be_written(Path("c.json"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cannot be created: .*file is a file"):
        check_can_be_written(tmp_path / "file" / "b" / "c.json")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError, match=f"{tmp_path} is not writable"):
        check_can_be_written(tmp_path / "a" / "c.json")


def test_unused_paths(tmp_path):
    path = tmp_path / "a.csv"
    assert unused_path(path, ".png", ".json") == path
    path.with_suffix(".json").touch()
    assert unused_path(path) == path
    assert unused_path(path, ".png", ".json") == tmp_path / "a-2.csv"
    (tmp_path / "a-2.png").touch()
    (tmp_path / "a-3.csv").touch()
    assert unused_path(path, ".png", ".json") == tmp_path / "a-4.csv"
