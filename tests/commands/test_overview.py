"""`python -m flowpp` lists every command and runs each by name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import flowpp
from flowpp.__main__ import COMMANDS, main


def test_every_command_is_listed(capsys):
    folder = Path(flowpp.__file__).parent
    files = [*folder.glob("*.py"), *folder.glob("*/__main__.py")]
    commands = {
        (file.parent if file.parent != folder else file).stem
        for file in files
        if "user_errors():" in file.read_text(encoding="utf-8")
    }
    assert set(COMMANDS) == commands
    main([])
    listed = capsys.readouterr().out
    assert all(f"\n  {command} " in listed for command in commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_the_version(command, capsys):
    name = f"flowpp.{command}" if command != "benchmark" else "flowpp.benchmark.__main__"
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main(["--version"])
    assert not stop.value.code
    assert capsys.readouterr().out == f"flowpp {flowpp.__version__}\n"


def test_a_command_runs_by_name():
    result = subprocess.run(
        [sys.executable, "-m", "flowpp", "plot", "--help"], capture_output=True, timeout=60
    )
    assert result.returncode == 0
    assert b"usage: python -m flowpp.plot" in result.stdout


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["trian"])
    message = capsys.readouterr().err
    assert "train, evaluate" in message and "got 'trian'; did you mean 'train'?" in message


@pytest.mark.parametrize(
    "module", ["flowpp", "flowpp.config", "flowpp.config.presets", "flowpp.data", "flowpp.train"]
)
def test_importing_it_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
