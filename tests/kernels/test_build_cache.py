"""Compiled kernels: damaged files are rebuilt, one process compiles, nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError
from flowpp.kernels.cpu import build, compilation
from flowpp.kernels.cpu.compilation import Compilation
from flowpp.kernels.cpu.compiler import Compiler, find_compiler
from flowpp.runtime import files
from tiny_library import FLAGS, KERNELS, all_backends, compiled, lines_about, stored

pytestmark = [
    pytest.mark.usefixtures("empty_cache"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here"),
    pytest.mark.skipif(os.name != "posix", reason="needs a shell"),
]


# ---- what the cache holds


def test_the_cache_is_used_by_later_processes(runs, source):
    runs("exec g++ $*")
    for _ in range(3):
        build.forget()
        assert compiled(source).number() == 42
    assert runs.count() == 1


def other_library(path):
    path.write_bytes(Path(torch.__file__).with_name("lib").joinpath("libshm.so").read_bytes())


DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(1 << 16)),
    "one byte": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
    "another library": other_library,
    "no hash": lambda path: path.with_name(f"{path.name}.sha256").unlink(),
    "another hash": lambda path: path.with_name(f"{path.name}.sha256").write_text("0" * 64),
    "no library": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_library_is_rebuilt(damage, runs, source, tmp_path):
    runs("exec g++ $*")
    compiled(source)
    library = stored(tmp_path)
    before = library.read_bytes()
    copy = shutil.copy(library, tmp_path / "copy")
    os.replace(copy, library)  # the loaded file itself must stay as it is
    damage(library)
    assert not cache.is_intact(library)
    assert compiled(source).number() == 42
    assert runs.count() == 2
    assert cache.is_intact(library) and library.read_bytes() == before


def test_a_foreign_library_with_a_hash_is_refused_with_what_to_do(source, tmp_path):
    name = Compilation(source, FLAGS, find_compiler()).name
    library = tmp_path / "cache" / f"{name}.so"
    library.parent.mkdir()
    (tmp_path / "foreign.cpp").write_text("int unrelated;")
    Compiler(("g++",)).compile(tmp_path / "foreign.cpp", FLAGS, library)
    cache._hash_file(library).write_text(cache._hash(library))
    with pytest.raises(BuildError, match="cannot be loaded: .*; FLOWPP_REBUILD=1 compiles it"):
        compiled(source)


def test_another_processor_has_a_library_of_its_own(runs, source, tmp_path, monkeypatch):
    runs("exec g++ $*")
    compiled(source)
    monkeypatch.setattr(compilation, "processor_key", lambda: b"another processor")
    compiled(source)
    assert runs.count() == 2
    assert len(list((tmp_path / "cache").glob("*.so"))) == 2


def test_a_replaced_compiler_builds_anew(runs, source):
    runs("exec g++ $*")
    compiled(source)
    runs("exec  g++ $*")
    compiled(source)
    assert runs.count() == 2


def test_files_are_on_disk_before_they_are_renamed(source, monkeypatch):
    order = []

    def synced(descriptor):
        order.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix))

    def replaced(old, new, replace=os.replace):
        order.append(("replace", Path(new).suffix))
        replace(old, new)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(cache.os, "replace", replaced)
    compiled(source)
    assert order[:4] == [
        ("fsync", ".so"), ("fsync", ".sha256"), ("replace", ".so"), ("replace", ".sha256"),
    ]  # fmt: skip
    assert order[4][0] == "fsync"  # the folder


def test_leftovers_of_killed_compilations_are_removed(source, tmp_path):
    left = tmp_path / "cache" / ".tiny-build-left"
    left.mkdir(parents=True)
    (left / "half.so").write_bytes(b"half")
    compiled(source)
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    library = stored(tmp_path).name
    assert names == {".tiny.lock", library, f"{library}.sha256"}


def test_a_killed_process_leaves_a_cache_that_works(runs, source, tmp_path):
    runs(f"echo $$ > {tmp_path}/number; mv {tmp_path}/number {tmp_path}/compiling; exec sleep 30")
    text = (
        "import sys; from pathlib import Path\n"
        "from flowpp.kernels.cpu.compilation import Compilation\n"
        "from flowpp.kernels.cpu.compiler import find_compiler\n"
        "Compilation(Path(sys.argv[1]), ('-shared', '-fPIC'), find_compiler()).library()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", text, str(source)])
    while not (tmp_path / "compiling").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    os.kill(int((tmp_path / "compiling").read_text()), signal.SIGKILL)
    assert list((tmp_path / "cache").glob(".tiny-build-*"))
    runs("exec g++ $*")
    assert compiled(source).number() == 42  # the lock went with the process
    assert not list((tmp_path / "cache").glob(".tiny-build-*"))


# ---- a cache that cannot be used


def unusable_file(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "file" / "cache"))


def no_home(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWPP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", home)


def held_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "UNNOTED", 0.1)
    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    (tmp_path / "cache").mkdir()
    return cache._locked(tmp_path / "cache" / ".tiny.lock")


def full_disk(tmp_path, monkeypatch):
    def failing(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", failing)


@pytest.mark.parametrize("state", [unusable_file, no_home, held_lock, full_disk])
def test_without_a_cache_the_process_compiles_for_itself(
    state, runs, source, tmp_path, monkeypatch, capsys
):
    runs("exec g++ $*")
    kept = state(tmp_path, monkeypatch)  # noqa: F841  (a lock is held as long as its object lives)
    for _ in range(2):
        build.forget()
        assert compiled(source).number() == 42
    (line,) = lines_about(capsys, "note: compiled kernels are not kept")
    assert "FLOWPP_CACHE chooses another folder" in line
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("message", ["error:\\nNo space left on device", ""])
def test_a_compiler_on_a_full_disk_gets_another_folder(
    message, runs, source, tmp_path, monkeypatch, capsys
):
    free = [1 << 40]
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
    runs(f'case "$*" in *{tmp_path}/cache*) echo "{message}"; exit 1;; esac\nexec g++ $*')
    if not message:  # it could not be written either
        run = Compiler._run
        monkeypatch.setattr(Compiler, "_run", lambda *given: (run(*given), free.append(0))[0])
    assert compiled(source).number() == 42
    assert runs.count() == 2
    (line,) = lines_about(capsys, "note: compiled kernels are not kept")
    assert "failed on tiny.cpp" in line
    assert not list((tmp_path / "cache").glob("*.failed.json"))


def test_a_full_disk_is_seen_before_the_compiler_is_run(runs, source, monkeypatch, capsys):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    runs("exec g++ $*")
    assert compiled(source).number() == 42
    assert runs.count() == 1
    assert lines_about(capsys, "less than 16 MiB are free")


def test_without_cache_a_failing_compiler_is_run_once_for_each_source(
    runs, tmp_path, monkeypatch, capsys
):
    runs("exit 1")
    unusable_file(tmp_path, monkeypatch)
    for _ in range(30):
        assert all_backends() == {"torch"}
    assert runs.count() == len(KERNELS)
    assert len(lines_about(capsys, "note: without compiled kernels")) == 1


def test_a_library_that_may_not_be_executed_is_copied(source, tmp_path, monkeypatch, capsys):
    compiled(source)
    opened, refused = ctypes.CDLL, str(tmp_path / "cache")

    def open_library(path):
        if path.startswith(refused):
            raise OSError("failed to map segment from shared object")
        return opened(path)

    monkeypatch.setattr(compilation.ctypes, "CDLL", open_library)
    for _ in range(2):
        assert compiled(source).number() == 42
    (line,) = lines_about(capsys, "failed to map segment")
    assert "not mounted noexec" in line
    assert list((tmp_path / "tmp").iterdir()) == []


# ---- several processes


@pytest.mark.parametrize("wish", ["0", "1"])
def test_of_two_at_once_one_compiles(wish, runs, source, capsys, monkeypatch):
    monkeypatch.setenv(cache.REBUILD, wish)
    monkeypatch.setattr(cache, "UNNOTED", 0.1)
    runs("sleep 0.5; exec g++ $*")
    results = []
    threads = [threading.Thread(target=lambda: results.append(compiled(source))) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [library.number() for library in results] == [42, 42]
    assert runs.count() == 1
    assert len(lines_about(capsys, "waiting for another process that compiles kernels")) == 1


FORKED = """
import os, torch
torch.set_num_threads(1)
from flowpp.kernels.cpu.build import library
from flowpp.kernels.layers import concat_elu
x = torch.linspace(-2, 2, 64).reshape(1, 4, 4, 4)
expected = concat_elu(x)
assert library.cache_info().currsize == 1
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(concat_elu(x), expected) else 1)
raise SystemExit(os.waitpid(child, 0)[1] != 0)
"""


def test_a_forked_process_uses_the_libraries_of_its_parent(monkeypatch):
    monkeypatch.undo()  # the tests' usual cache
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    subprocess.run(command, check=True, timeout=100)
