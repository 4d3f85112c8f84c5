"""The compiler of the kernels: its failures are remembered, and `CXX` may have arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError
from flowpp.kernels.cpu import build, compiler, failures
from flowpp.kernels.cpu.compiler import Compiler, find_compiler
from flowpp.runtime import notes
from tiny_library import KERNELS, all_backends, compiled, lines_about

pytestmark = [
    pytest.mark.usefixtures("empty_cache"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here"),
    pytest.mark.skipif(os.name != "posix", reason="needs a shell"),
]


# ---- failures


def test_a_failing_compiler_is_run_once_for_each_source(runs, capsys):
    runs("exit 1")
    for _ in range(30):
        assert all_backends() == {"torch"}
        with pytest.raises(BuildError, match="failed on layers.cpp: exit status 1"):
            build.library("layers.cpp")
    assert runs.count() == len(KERNELS)
    for _ in range(2):  # in later processes
        build.forget()
        assert all_backends() == {"torch"}
        with pytest.raises(BuildError, match="recorded in .*; FLOWPP_REBUILD=1 tries again"):
            build.library("layers.cpp")
    assert runs.count() == len(KERNELS)
    (line,) = lines_about(capsys, "note: without compiled kernels")
    assert build.SLOWER in line and "CXX chooses a compiler" in line


def test_a_later_process_says_when_it_failed_and_how_to_try_again(runs, capsys, monkeypatch):
    runs("echo 'x.h: error: no such file'; exit 1")
    all_backends()
    build.forget()
    monkeypatch.setattr(notes, "_noted", set())
    capsys.readouterr()
    all_backends()
    (line,) = lines_about(capsys, "note: without compiled kernels")
    assert "error: no such file" in line and "FLOWPP_REBUILD=1 tries again" in line


def fails(source):
    build.forget()
    with pytest.raises(BuildError):
        compiled(source)


@pytest.mark.parametrize("change", ["compiler", "source", "header", "variable", "day", "wish"])
def test_a_failure_is_tried_again_when_something_has_changed(change, runs, source, monkeypatch):
    path = runs("exit 1")
    for _ in range(3):
        fails(source)
    assert runs.count() == 1
    if change == "compiler":
        runs("exit 2")
    elif change == "variable":
        monkeypatch.setenv("CPATH", "/elsewhere")
    elif change == "day":
        now = time.time()
        monkeypatch.setattr(failures.time, "time", lambda: now + failures.SECONDS + 1)
    elif change == "wish":
        monkeypatch.setenv(cache.REBUILD, "1")
    else:
        file = source if change == "source" else source.with_name("number.h")
        file.write_text(file.read_text() + "// changed\n")
    fails(source)
    assert runs.count() == 2, path


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"time": "now", "reason": 1}', "null"])
def test_a_damaged_record_of_a_failure_is_ignored(content, runs, source, tmp_path):
    runs("exit 1")
    fails(source)
    (record,) = (tmp_path / "cache").glob("*.failed.json")
    assert "failed on tiny.cpp" in json.loads(record.read_text())["reason"]
    record.write_text(content)
    fails(source)
    assert runs.count() == 2


def test_a_success_removes_the_record(runs, source, tmp_path, monkeypatch):
    runs(f"[ -e {tmp_path}/installed ] || exit 1\nexec g++ $*")
    fails(source)
    (tmp_path / "installed").touch()
    monkeypatch.setenv(cache.REBUILD, "1")
    build.forget()
    assert compiled(source).number() == 42
    assert not list((tmp_path / "cache").glob("*.failed.json"))


@pytest.mark.parametrize("script", ["echo 'fatal error: Killed signal'; exit 1", "kill -9 $$"])
def test_a_killed_compiler_is_tried_again_by_the_next_process(script, runs, source):
    runs(script)
    for _ in range(2):
        with pytest.raises(BuildError):
            compiled(source)
    assert runs.count() == 1
    fails(source)
    assert runs.count() == 2


def test_a_compiler_that_hangs_is_killed_with_its_children_and_not_run_again(
    runs, monkeypatch, tmp_path
):
    runs(f"sleep 60 & echo $! >> {tmp_path}/child; sleep 60")
    monkeypatch.setattr(compiler, "TIME_LIMIT", 0.5)
    start = time.monotonic()
    assert all_backends() == {"torch"}
    assert time.monotonic() - start < 20
    with pytest.raises(BuildError, match="did not compile .* in 0 seconds"):
        build.library("layers.cpp")
    assert runs.count() == 1  # it would hang with other sources, too
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/status")
        if not state.exists() or "State:\tZ" in state.read_text():
            break
        time.sleep(0.02)
    else:
        pytest.fail("the compiler's child is left")


# ---- the name of the compiler


def test_a_compiler_with_arguments(runs, source, monkeypatch, tmp_path):
    path = runs("shift 0; exec $*")  # as ccache does
    monkeypatch.setenv("CXX", f"{path} g++ -DUNUSED='1 2'")
    assert find_compiler().words == (str(path), "g++", "-DUNUSED=1 2")
    monkeypatch.setenv("CXX", f"{path} g++ -DUNUSED")
    assert compiled(source).number() == 42
    assert runs.count() == 1


def test_a_path_with_spaces(monkeypatch, tmp_path):
    path = tmp_path / "my compilers" / "g++"
    path.parent.mkdir()
    shutil.copy("/bin/sh", path)
    monkeypatch.setenv("CXX", str(path))
    assert find_compiler().words == (str(path),)


@pytest.mark.parametrize("named", ["no-such-compiler", "no-such-ccache g++", 'g++ "'])
def test_a_compiler_that_is_none_is_named(named, monkeypatch):
    monkeypatch.setenv("CXX", named)
    with pytest.raises(BuildError, match=f"CXX must .*, got '{re.escape(named)}"):
        build.library("layers.cpp")


def test_the_first_compiler_found_is_taken(monkeypatch):
    monkeypatch.setenv("CXX", " ")
    monkeypatch.setattr(compiler.shutil, "which", lambda name: name == "c++")
    assert find_compiler() == Compiler(("c++",))
