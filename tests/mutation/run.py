"""Mutation testing with mutmut, one part of the library after another: `tox -e mutation`.

    tox -e mutation -- batches checkpoint     two parts
    tox -e mutation -- data --share 0.1       a random tenth of a part's mutants, always the same
    tox -e mutation -- batches --mutmut show NAME     another command of mutmut on the last part

mutmut makes no mutants of functions with a decorator. Here it does, except of cached functions:
their values are computed before a mutant's process is forked, so that it would never be called.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import libcst as cst
from mutmut import configuration
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation
from parts import PARTS

INNER = ("staticmethod", "classmethod")
"""Decorators that mutmut handles itself."""
CACHES = ("cache", "lru_cache", "cached_property")
MUTANTS = Path("mutants")
OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 33: "no test"}
"""By exit status of pytest; others are endless loops, ended by signals."""

_skip = file_mutation.MutationVisitor._skip_node_and_children
_arrange = file_mutation.function_trampoline_arrangement


def decorators(function: cst.FunctionDef) -> set[str]:
    """Return the last part of each decorator's name: no_grad for torch.no_grad()."""
    found = set()
    for decorator in function.decorators:
        node = decorator.decorator
        node = node.func if isinstance(node, cst.Call) else node
        found.add(node.attr.value if isinstance(node, cst.Attribute) else node.value)
    return found


def skip(visitor: file_mutation.MutationVisitor, node: cst.CSTNode) -> bool:
    """Skip what mutmut skips, but functions with decorators only if they are cached."""
    if isinstance(node, cst.FunctionDef) and not decorators(node) & {*CACHES, *INNER}:
        node = node.with_changes(decorators=[])
    return _skip(visitor, node)


def arrange(function: cst.FunctionDef, mutants, class_name, *, share: float = 1.0):
    """Apply decorators to the function that chooses the mutant, not to each mutant."""
    choice = random.Random(f"{class_name}.{function.name.value}")
    chosen = [mutant for mutant in mutants if choice.random() < share]
    empty, nodes, assignments, names = _arrange(function, chosen, class_name)
    if not decorators(function) & set(INNER):
        nodes = [nodes[0], *(node.with_changes(decorators=[]) for node in nodes[1:])]
    return empty, nodes, assignments, names


def configure(part: str, share: float) -> None:
    """Prepare mutmut for a part."""
    # Plugins of pytest are not needed here, and each costs time for each mutant.
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    files, tests = PARTS[part]
    configuration._config = dataclasses.replace(
        configuration.config(), only_mutate=files, pytest_add_cli_args_test_selection=tests
    )
    file_mutation.MutationVisitor._skip_node_and_children = skip
    file_mutation.function_trampoline_arrangement = functools.partial(arrange, share=share)


def table() -> str:
    """Return a row for each module: its mutants, and what became of them."""
    columns = ("killed", "timed out", "survived", "no test")
    rows = [f"| module | mutants | {' | '.join(columns)} |", "|---" * 6 + "|"]
    for file in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"].values()
        if codes:
            counts = Counter(OUTCOMES.get(code, "timed out") for code in codes)
            module = str(file.relative_to(MUTANTS)).removesuffix(".py.meta")
            numbers = [len(codes), *(counts[column] for column in columns)]
            rows.append(f"| `{module}` | {' | '.join(map(str, numbers))} |")
    return "\n".join(rows)


def main() -> None:
    """Try the mutants of the parts named on the command line, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--share", type=float, default=1.0, help="share of the mutants, 0 ... 1")
    parser.add_argument("--mutmut", nargs=argparse.REMAINDER, help="a command of mutmut")
    given = parser.parse_args()
    if given.mutmut:
        configure(given.parts[0], given.share)
        cli(given.mutmut, standalone_mode=False)
        return
    for part in given.parts or PARTS:
        shutil.rmtree(MUTANTS, ignore_errors=True)
        command = [sys.executable, __file__, part, "--share", str(given.share), "--mutmut"]
        subprocess.run([*command, "run", "--max-children", "2"], check=True)
        subprocess.run([*command, "results"], check=True)
        print(table())


if __name__ == "__main__":
    main()
