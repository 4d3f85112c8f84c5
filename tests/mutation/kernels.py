"""Mutation testing of the C++ kernels: `python tests/mutation/kernels.py layers.cpp --count 30`.

Each mutant is compiled on its own, which takes most of the time: a random sample, always the same,
stands for all. It is not counted if it does not compile.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from flowpp.kernels import cache

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "flowpp" / "kernels" / "cpu"
TESTS = {
    "attention.cpp": ["tests/kernels/test_splits.py", "tests/kernels/test_layers.py"],
    "convolution.cpp": ["tests/kernels/test_splits.py", "tests/kernels/test_convolution.py"],
    "layers.cpp": ["tests/kernels/test_splits.py", "tests/kernels/test_layers.py"],
    "mixture_logistic.cpp": [
        "tests/kernels/test_splits.py",
        "tests/kernels/test_kernel_edges.py",
        "tests/kernels/test_mixture_logistic.py",
    ],
}
TESTS |= {
    "winograd.h": TESTS["convolution.cpp"],
    "windows.h": TESTS["convolution.cpp"],
    "transpose.h": TESTS["convolution.cpp"],
    "parallel.h": TESTS["layers.cpp"],
}
"""Tests that judge the mutants of a source file."""
SWAPS = {
    " < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ",
    " + ": " - ", " - ": " + ", " * ": " / ", " / ": " * ", " % ": " / ",
    " += ": " -= ", " -= ": " += ", " && ": " || ", " || ": " && ",
}  # fmt: skip
OPERATOR = re.compile("|".join(re.escape(text) for text in sorted(SWAPS, key=len, reverse=True)))
WHOLE = re.compile(r"(?<![\w.\"])\d+(?![\w.])")
IGNORED = re.compile(r"^\s*(#|//|/?\*|static_assert|template)")
SECONDS = 600
"""Limit on the tests of a mutant, as one may loop for ever."""


def mutants(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the whole text of each mutant: another operator, or a number plus 1."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        code = line.partition("//")[0]
        if IGNORED.match(code) or '"' in code:
            continue
        found = [(m, SWAPS[m[0]]) for m in OPERATOR.finditer(code)]
        found += [(m, str(int(m[0]) + 1)) for m in WHOLE.finditer(code)]
        for match, other in found:
            changed = line[: match.start()] + other + line[match.end() :]
            yield index + 1, "\n".join([*lines[:index], changed, *lines[index + 1 :]])


def judge(name: str, text: str, folder: Path, libraries: Path) -> str:
    """Return what becomes of a mutant of the file `name`, whose folder is copied to `folder`."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / name).write_text(text)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            map(str, (ROOT, ROOT / "tests" / "helpers", Path(__file__).parent))
        ),
        "FLOWPP_MUTATED_SOURCES": str(folder),
        "FLOWPP_CACHE": str(libraries),
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "mutated_sources"]
    command += ["-p", "no:cacheprovider", *TESTS[name]]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return "killed"
    if "mutant does not compile" in done.stdout + done.stderr:
        return "not compiled"
    return "survived" if done.returncode == 0 else "killed"


def main() -> None:
    """Try mutants of a file, and print those that survive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", choices=TESTS)
    parser.add_argument("--count", type=int, default=20, help="number of mutants to try")
    given = parser.parse_args()
    original = (FOLDER / given.file).read_text()
    every = list(mutants(original))
    chosen = random.Random(0).sample(every, min(given.count, len(every)))
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        # The other sources' libraries need not be compiled again.
        shutil.copytree(cache.folder(), place / "cache")
        if judge(given.file, original, place / "original", place / "cache") != "survived":
            raise SystemExit("the tests must pass with the original sources")
        for number, (line, text) in enumerate(chosen):
            outcome = judge(given.file, text, place / str(number), place / "cache")
            outcomes[outcome] += 1
            if outcome == "survived":
                print(f"survived, line {line}: {text.splitlines()[line - 1].strip()}", flush=True)
    print(f"{given.file}: {len(every)} mutants, {len(chosen)} tried: {dict(outcomes)}")


if __name__ == "__main__":
    main()
