"""The commands and Python blocks of the README and docs/ run, and the flags they name exist."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import uuid
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import documents
from documents import (
    COMPILED_ONLY,
    NEEDED,
    NOT_RUN,
    ROOT,
    SLOW,
    Command,
    blocks,
    commands,
    has_prefix,
)

COMMANDS = commands()
OURS = [c for c in COMMANDS if "-m flowpp" in c.text or "-m conformance" in c.text]
RUN = [c for c in COMMANDS if not c.matches(NOT_RUN)]
QUICK_COMMANDS = [c for c in RUN if not c.matches(SLOW)]
SLOW_COMMANDS = [c for c in RUN if c.matches(SLOW)]
PYTHON = blocks("python")


# ---- flags


def module_and_arguments(command: Command) -> tuple[str, list[str]]:
    """Split `python -m MODULE ...` or `torchrun ... -m MODULE ...`."""
    words = command.words
    place = words.index("-m")
    return words[place + 1], words[place + 2 :]


def main_function(module: str):
    """The main function that `python -m MODULE` calls."""
    imported = importlib.import_module(module)
    if hasattr(imported, "__path__"):
        imported = importlib.import_module(f"{module}.__main__")
    return imported.main


def normalized(flag: str) -> str:
    """The flag with underscores: hyphens and underscores are interchangeable."""
    return flag.replace("-", "_")


@cache
def flags(module: str) -> frozenset[str]:
    """All flags in the --help of a command, normalized."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as stop:
        main_function(module)(["--help"])
    assert stop.value.code == 0
    found = re.findall(r"(?<![\w-])--[a-z][\w.-]*", output.getvalue())
    return frozenset(normalized(flag) for flag in (*found, "--help", "--preset"))


def unknown_flags(command: Command) -> list[str]:
    """Flags of a command that are not in its --help."""
    module, arguments = module_and_arguments(command)
    used = [a.split("=")[0] for a in arguments if a.startswith("--")]
    return [flag for flag in used if normalized(flag) not in flags(module)]


@pytest.mark.parametrize("command", OURS, ids=str)
def test_flags_exist(command):
    assert unknown_flags(command) == []


def test_an_unknown_flag_is_found():
    command = Command("page.md", 1, "python -m flowpp.sample runs/mine --coumt 3 --seed 1")
    assert unknown_flags(command) == ["--coumt"]
    command = Command("page.md", 1, "torchrun --nproc-per-node=2 -m flowpp.train --data.pathh x")
    assert unknown_flags(command) == ["--data.pathh"]


@pytest.mark.parametrize("command", [c for c in OURS if "flowpp.train" in c.text], ids=str)
def test_training_settings_are_accepted(command, desk, monkeypatch):
    """Without any substitution: preset, flags, types and ranges."""
    from flowpp.train import read_arguments

    monkeypatch.chdir(desk)
    read_arguments(module_and_arguments(command)[1])


def test_flags_in_prose_exist():
    """Each `--flag` between backticks belongs to some command."""
    modules = {module_and_arguments(c)[0] for c in OURS}
    known = frozenset().union(*(flags(module) for module in sorted(modules)))
    known |= {normalized("--extra-index-url")}  # pip's
    known |= {normalized("--emulate-cuda")}  # this suite's, see tests/conftest.py
    known |= {normalized("--pyargs"), normalized("--conformance-NAME")}  # pytest's, its plugin's
    known |= {normalized("--node-rank"), normalized("--nnodes")}  # torchrun's
    for page in documents.PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
        for code in re.findall(r"`([^`\n]+)`", text):
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
                assert normalized(flag) in known, f"{page.name}: {flag}"


# ---- commands


@pytest.mark.parametrize("command", QUICK_COMMANDS, ids=str)
def test_command(command, desk, monkeypatch, capsys):
    """In this process, where torch is already loaded."""
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    if command.words[0] == "python" and command.words[1] != "-m":
        subprocess.run([sys.executable, *command.words[1:]], check=True)
        return
    module, arguments = module_and_arguments(Command("", 0, with_new_run(command.fast)))
    status = 0
    try:
        returned = main_function(module)(arguments)
        status = returned if isinstance(returned, int) else 0
    except SystemExit as stop:
        status = stop.code
    output = capsys.readouterr()
    assert status == command.expected_status, output.out + output.err


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW_COMMANDS, ids=str)
def test_slow_command(command, desk, request):
    """In a shell."""
    if "VARIABLES" in command.text or "released" in command.text:
        request.getfixturevalue("desk_with_variables")
    run_in_shell(desk, command)


def run_in_shell(desk: Path, command: Command) -> None:
    text = with_new_run(command.fast)
    python = f"'{sys.executable}'"
    text = re.sub(r"^python ", f"{python} ", text)
    text = re.sub(r"^torchrun ", f"{python} -m torch.distributed.run --standalone ", text)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{desk}"}
    done = subprocess.run(
        text, shell=True, cwd=desk, env=environment, capture_output=True, text=True, timeout=900
    )
    output = done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode == command.expected_status, f"{text}\n{output}"


def with_new_run(text: str) -> str:
    """Make the run directory that a command creates unique."""
    return re.sub(
        r"--out (runs/(?:new|skipping|released|tuned))\b", rf"--out \1-{uuid.uuid4()}", text
    )


def test_every_table_entry_occurs_in_a_document():
    for table in (NOT_RUN, SLOW, documents.EXIT_STATUS):
        for prefix in table:
            assert any(has_prefix(c.text, prefix) for c in COMMANDS), prefix
    for original, _, _ in documents.SUBSTITUTIONS:
        assert any(original in c.text for c in COMMANDS), original


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "tox"], ids=str)
def test_tox_environments_exist(command):
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    words = command.words
    names = words[words.index("-e") + 1].split(",") if "-e" in words else []
    assert [name for name in names if f"testenv:{name}" not in tox] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib needs Python 3.11")
def test_extras_exist():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in documents.PAGES:
        for extra in re.findall(r"pip install [^`\n]*\.\[(\w+)\]", page.read_text()):
            assert extra in project["optional-dependencies"], f"{page.name}: {extra}"


# ---- Python


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch.export.load of 2.11
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_block(block, desk, monkeypatch):
    source = block.text
    if block.page == "extending.md":
        source = completed_excerpt(source)
    code = compile(source, str(block), "exec")
    if any(part == block.page or part in block.text for part in COMPILED_ONLY):
        return
    for package in (p for part, ps in NEEDED.items() if part in source for p in ps):
        pytest.importorskip(package)
        warnings.simplefilter("ignore")  # of torch's exporter; pytest restores the filters
    monkeypatch.chdir(desk)
    exec(code, {"__name__": "block", "images": np.zeros((2, 1, 8, 8), np.uint8)})


def completed_excerpt(source: str) -> str:
    """Complete signatures that are shown without `def` and body."""
    return re.sub(r"^(\w+\(.*\)) -> \(.*$", r"def \1: ...", source, flags=re.M)


# ---- links


LINKS = [
    (page, target)
    for page in documents.PAGES
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    if not target.startswith("http")
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{p.name}-{t}" for p, t in LINKS])
def test_links_exist(page, target):
    assert (page.parent / target).exists()


def test_the_version_is_the_same_everywhere():
    import flowpp

    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    logged = re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert cited == stated == logged == flowpp.__version__
