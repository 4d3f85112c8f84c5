"""`--help` of every command describes every flag."""

from __future__ import annotations

import importlib
import re

import pytest

from flowpp.__main__ import COMMANDS

FLAG = re.compile(r"^(RUN|SOURCE|--\w[\w.]*)( \[RUN \.\.\.\])?(, --\S+| \S+)?\s*(.*)$")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_description(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    name = f"flowpp.{command}.__main__" if command == "benchmark" else f"flowpp.{command}"
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(name).main(["--help"])
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    flags = {}
    for number, line in enumerate(lines):
        if match := FLAG.match(line):
            flags[match[1]] = match[4] or lines[number + 1]
    assert len(flags) >= 2
    assert [name for name, text in flags.items() if not text or text.startswith("(")] == []
