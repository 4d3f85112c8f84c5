"""What the README and docs/ tell a reader to type works, and every flag they name exists."""

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
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import documents
from documents import COMPILED_ONLY, NOT_RUN, ROOT, SLOW, Command, begins, blocks, commands

COMMANDS = commands()
OURS = [c for c in COMMANDS if "-m flowpp" in c.text or "-m conformance" in c.text]
RUN = [c for c in COMMANDS if not c.fits(NOT_RUN)]
QUICK = [c for c in RUN if not c.fits(SLOW)]
LATE = [c for c in RUN if c.fits(SLOW)]
PYTHON = blocks("python")


def named(found: list) -> list[str]:
    return [str(one) for one in found]


# ---- flags


def module_and_arguments(command: Command) -> tuple[str, list[str]]:
    """`python -m MODULE ...` and `torchrun ... -m MODULE ...`."""
    words = command.words
    place = words.index("-m")
    return words[place + 1], words[place + 2 :]


def entry(module: str):
    """The main function that `python -m MODULE` calls."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    return found.main


def plain(flag: str) -> str:
    """Hyphens and underscores are one in a flag."""
    return flag.replace("-", "_")


@cache
def flags(module: str) -> frozenset[str]:
    """All flags of a command, by its --help, made plain."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as stop:
        entry(module)(["--help"])
    assert stop.value.code == 0
    found = re.findall(r"(?<![\w-])--[a-z][\w.-]*", said.getvalue())
    return frozenset(plain(flag) for flag in (*found, "--help", "--preset"))


def unknown_flags(command: Command) -> list[str]:
    """Flags of a command that its --help does not name."""
    module, arguments = module_and_arguments(command)
    used = [a.split("=")[0] for a in arguments if a.startswith("--")]
    return [flag for flag in used if plain(flag) not in flags(module)]


@pytest.mark.parametrize("command", OURS, ids=named(OURS))
def test_flags_exist(command):
    assert unknown_flags(command) == []


def test_a_flag_that_does_not_exist_is_seen():
    command = Command("page.md", 1, "python -m flowpp.sample runs/mine --coumt 3 --seed 1")
    assert unknown_flags(command) == ["--coumt"]
    command = Command("page.md", 1, "torchrun --nproc-per-node=2 -m flowpp.train --data.pathh x")
    assert unknown_flags(command) == ["--data.pathh"]


@pytest.mark.parametrize(
    "command", [c for c in OURS if "flowpp.train" in c.text], ids=lambda c: str(c)
)
def test_training_settings_are_accepted(command, desk, monkeypatch):
    """The document's own words, before any substitution: preset, flags, types and ranges."""
    from flowpp.train import read_arguments

    monkeypatch.chdir(desk)
    read_arguments(module_and_arguments(command)[1])


def test_flags_in_prose_exist():
    """`--flag` between backticks, in any page: some command has it."""
    modules = {module_and_arguments(c)[0] for c in OURS}
    known = frozenset().union(*(flags(module) for module in sorted(modules)))
    known |= {plain("--extra-index-url")}  # pip's
    for page in documents.PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
        for code in re.findall(r"`([^`\n]+)`", text):
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
                assert plain(flag) in known, f"{page.name}: {flag}"


# ---- commands


@pytest.mark.parametrize("command", QUICK, ids=named(QUICK))
def test_command(command, desk, monkeypatch, capsys):
    """In this process, which has torch loaded already."""
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    if command.words[0] == "python" and command.words[1] != "-m":
        subprocess.run([sys.executable, *command.words[1:]], check=True)
        return
    module, arguments = module_and_arguments(Command("", 0, fresh(command.quick)))
    status = 0
    try:
        returned = entry(module)(arguments)
        status = returned if isinstance(returned, int) else 0
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == command.status, said.out + said.err


@pytest.mark.slow
@pytest.mark.parametrize("command", LATE, ids=named(LATE))
def test_slow_command(command, desk, request):
    """From a shell, as it stands but for the substitutions."""
    if "VARIABLES" in command.text or "released" in command.text:
        request.getfixturevalue("desk_with_variables")
    shell(desk, command)


def shell(desk: Path, command: Command) -> None:
    text = fresh(command.quick)
    here = f"'{sys.executable}'"
    text = re.sub(r"^python ", f"{here} ", text)
    text = re.sub(r"^torchrun ", f"{here} -m torch.distributed.run --standalone ", text)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{desk}"}
    done = subprocess.run(
        text, shell=True, cwd=desk, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == command.status, f"{text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def fresh(text: str) -> str:
    """Run directories that a command makes are new ones."""
    return re.sub(r"--out (runs/(?:new|skipping|released))\b", rf"--out \1-{uuid.uuid4()}", text)


def test_what_is_not_run_is_there():
    """Entries of the tables that no document has any more."""
    for table in (NOT_RUN, SLOW, documents.EXIT_STATUS):
        for beginning in table:
            assert any(begins(c.text, beginning) for c in COMMANDS), beginning
    for said, _, _ in documents.SUBSTITUTIONS:
        assert any(said in c.text for c in COMMANDS), said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "tox"], ids=str)
def test_tox_environments_exist(command):
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    words = command.words
    wanted = words[words.index("-e") + 1].split(",") if "-e" in words else []
    assert [name for name in wanted if f"testenv:{name}" not in tox] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_extras_exist():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in documents.PAGES:
        for extra in re.findall(r"pip install [^`\n]*\.\[(\w+)\]", page.read_text()):
            assert extra in project["optional-dependencies"], f"{page.name}: {extra}"


# ---- Python


@pytest.mark.parametrize("block", PYTHON, ids=named(PYTHON))
def test_python_block(block, desk, monkeypatch):
    source = block.text
    if block.page == "extending.md":
        source = excerpt(source)
    code = compile(source, str(block), "exec")
    if any(part == block.page or part in block.text for part in COMPILED_ONLY):
        return
    monkeypatch.chdir(desk)
    exec(code, {"__name__": "block", "images": np.zeros((2, 1, 8, 8), np.uint8)})


def excerpt(source: str) -> str:
    """A signature with what it returns is shown without its body; a case without its list."""
    source = re.sub(r"^(\w+\(.*\)) -> \(.*$", r"def \1: ...", source, flags=re.M)
    return source


# ---- links


LINKS = [
    (page, target)
    for page in documents.PAGES
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    if not target.startswith("http")
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{p.name}-{t}" for p, t in LINKS])
def test_links_lead_somewhere(page, target):
    assert (page.parent / target).exists()


def test_one_version_everywhere():
    import flowpp

    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    logged = re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert cited == stated == logged == flowpp.__version__
