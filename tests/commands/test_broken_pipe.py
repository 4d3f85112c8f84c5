"""Commands end quietly if the reader of standard output has closed it, as `head` does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flowpp.__main__ import COMMANDS
from flowpp.config.command_line import user_errors

MODULES = [
    "flowpp",
    *(f"flowpp.{name}" for name in COMMANDS),
    "conformance",
    *(f"conformance.{name}" for name in ("audit", "released", "fingerprint")),
]


def restore_sigint() -> None:
    """Undo what `nohup` and shells do to processes in the background: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_into_a_closed_pipe(*arguments: str) -> subprocess.CompletedProcess[str]:
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "FLOWPP_BACKEND": "torch"},  # compiling says so on standard error
        )
    finally:
        os.close(write)


@pytest.mark.parametrize("module", MODULES)
def test_help(module):
    done = run_into_a_closed_pipe("-m", module, "--help")
    assert done.stderr == "" and done.returncode in (0, 1)  # argparse ignores a failed write


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_results(flags):
    arguments = "-m conformance --in-process --cases affine/shared --laws forward".split()
    done = run_into_a_closed_pipe(*flags, *arguments)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_broken_pipe_is_not_an_error_of_the_user():
    with pytest.raises(BrokenPipeError), user_errors():
        raise BrokenPipeError


@pytest.mark.parametrize("module", ["flowpp.sample", "flowpp.train", "flowpp.evaluate"])
def test_ctrl_c_during_the_imports_leaves_no_traceback(module, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise KeyboardInterrupt\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", module, *(["anything"] if module != "flowpp.train" else [])],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("package", ["tyro", "torch"])
@pytest.mark.parametrize("command", [["flowpp.sample", "run"], ["flowpp", "sample", "run"]])
def test_an_interrupted_import_ends_at_once(package, command, tmp_path):
    """Modules that guard their own imports, and C++ code, may swallow the exception."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    import email.mime.text\n"
        "except KeyboardInterrupt:\n    raise ImportError('swallowed')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
        preexec_fn=restore_sigint,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_importing_the_library_leaves_signals_alone():
    code = "import signal, flowpp; print(signal.getsignal(signal.SIGINT).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=restore_sigint
    )
    assert done.stdout == "default_int_handler\n"
