"""Reading of files from elsewhere, within limits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from flowpp.runtime.bounded import FileError, parse_json, read_bounded, read_json

posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs, sockets and devices of POSIX")


def test_a_file_and_a_link_to_it_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_bounded(tmp_path / name, 5) == b"12345"
        with pytest.raises(FileError, match="at most 4 bytes, got 5"):
            read_bounded(tmp_path / name, 4)


def test_a_large_file_without_contents(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileError, match="at most 100 bytes, got 1,099,511,627,776"):
        read_json(tmp_path / "file", 100)


@posix
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
def test_what_is_not_a_regular_file(tmp_path, kind, monkeypatch):
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            monkeypatch.chdir(tmp_path)  # the name of a socket has a limited length
            bound.bind("x")
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        with pytest.raises(FileError, match=f"x must be a regular file, got a {kind}"):
            read_bounded(path, 100)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_file_with_more_than_its_size():
    with pytest.raises(FileError, match="at most 100 bytes, got more"):
        read_bounded(Path("/proc/self/maps"), 100)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 101, "-" + "9" * 5000, "", "{", "\udc80"])
def test_what_is_not_json(text):
    with pytest.raises(ValueError):
        parse_json(text)
    with pytest.raises(ValueError):
        parse_json(text.encode(errors="surrogateescape"))


def test_json():
    assert parse_json(b'{"a": [1, -2.5, null, 12345678901234567890]}') == {
        "a": [1, -2.5, None, 12345678901234567890]
    }
