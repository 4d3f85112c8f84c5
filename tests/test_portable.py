"""No module needs, when it is imported, what only POSIX systems have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowpp.runtime.device import to_device

IMPORT_ALL = """
import builtins, importlib, os, pkgutil, signal, sys

MISSING = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "syslog", "readline"}
TREES = ("flowpp", "reference", "conformance")
original = builtins.__import__


def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if importer in TREES and name.partition(".")[0] in MISSING:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, locals, fromlist, level)


import torch, torch.distributed, matplotlib.pyplot, sklearn, tyro, pytest, hypothesis  # noqa

builtins.__import__ = without_posix
for name in ("fork", "getuid", "geteuid", "killpg", "setsid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "setitimer", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
for tree in TREES:
    package = importlib.import_module(tree)
    for module in pkgutil.walk_packages(package.__path__, f"{tree}."):
        if module.name.rpartition(".")[2] in ("__main__", "test_laws"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # a package that is not installed is no fault
            if error.name.partition(".")[0] in MISSING | set(TREES):
                print(f"{module.name}: {error}")
        except AttributeError as error:
            print(f"{module.name}: {error}")
print("modules:", sum(name.partition(".")[0] in TREES for name in sys.modules))
"""


def test_every_module_can_be_imported_without_posix():
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    *problems, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, done.stderr[-2000:]
    assert problems == []
    assert last.startswith("modules:") and int(last.split()[1]) > 300


def test_apples_gpus_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="'mps' is not usable: .* no float64, .*; use cpu"):
        to_device(None, "mps")
