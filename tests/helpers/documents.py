"""Shell and Python blocks of the README and docs/, and a fast variant of each command.

Tests run each command as printed, after the replacements of `SUBSTITUTIONS` and with the flags of
`EXTRA_FLAGS` appended. Commands that no test can run are listed in `NOT_RUN` with the reason. The
documents contain neither hidden blocks nor markers for the tests.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SUBSTITUTIONS = (
    # Documents name a reader's files; conftest.py creates these.
    ("cifar-10-python.tar.gz", "cifar.npz", "the published archive is a download of 170 MB"),
    ("--training.device cuda", "--training.device cpu", "not every machine has a GPU"),
    ("--device cuda", "--device cpu", "as above"),
    ("tests/data/golden/", f"{ROOT}/tests/data/golden/", "commands run in a scratch folder"),
    ("--out runs/mine", "--out runs/new", "runs/mine already exists, for other commands"),
    ("--out runs/by-class", "--out runs/new", "as above"),
    ("--out runs/masked", "--out runs/new", "as above"),
    ("complete runs/small", "complete runs/masked", "a run of another context"),
    ("complete runs/grey", "complete runs/masked", "as above"),
)
"""(text of a document, replacement, reason)."""

TINY_MODEL = " ".join(
    f"--model.{flow}.{setting}"
    for flow in ("flow", "dequantizer")
    for setting in ("filters=8", "blocks=1", "components=2", "heads=2")
)
TINY_MODEL += " --model.context.filters=8 --model.context.blocks=1"
TINY_RUN = (
    f"{TINY_MODEL} --training.steps 2 --training.batch_size 8 --training.init_batch_size 16 "
    "--training.sample_count 4 --training.evaluation_images 8 --training.threads 1"
)
EXTRA_FLAGS = (
    ("python -m flowpp.train --resume runs/", "", "a finished run prints its result again"),
    (
        "python -m flowpp.train --init-from digits",
        "--training.steps 1 --training.sample_count 4 --training.evaluation_images 8",
        "one step of the pretrained model, whose settings must stay as they are",
    ),
    ("python -m flowpp.train", TINY_RUN, "two steps of a tiny model"),
    ("torchrun", TINY_RUN, "two steps of a tiny model"),
    ("python -m flowpp.convert VARIABLES.npz", TINY_MODEL, "the variables are a tiny model's"),
    ("python -m flowpp.evaluate", "--images 4 --importance-samples 2", "few images and samples"),
    (
        "python -m flowpp.benchmark",
        "--what mixture --elements 1000 --components 2 --repeats 1 --no_peak_memory",
        "one small task",
    ),
)
"""(prefix of a command, flags to append, reason). The first match applies; later flags win."""

NOT_RUN = {
    "pip install": "the package is already installed; `tox -e package` tests a fresh install",
    "python -m venv": "`tox -e package` creates one",
    ". .venv": "as above",
    "python -m flowpp.benchmark.gpu_check": "tests/benchmarks/test_gpu_check.py runs it in small",
    "python -m flowpp.benchmark.recipe": "hours of training; tests/benchmarks/test_recipe.py",
    "python -m flowpp.benchmark.recipe.scaling": "tests/benchmarks/test_recipe_scaling.py",
    "python -m flowpp.benchmark.recipe.figure": "as above",
    "python tests/mutation/kernels.py": "compiles each mutant; a mutation run has its own command",
    "tox": "tox runs these tests; its environments are looked up in tox.ini instead",
    "python -m conformance --adapter conformance.adapters.zuko:ZukoAdapter": (
        "needs zuko: `tox -e libraries` runs the adapters"
    ),
    "python -m flowpp.compress": "tests/commands/test_compress.py runs it on digits",
    "python -m flowpp.decompress": "as above",
    "tensorboard": "a server that runs until it is stopped",
}
"""Prefixes of commands that are not run, with the reason."""

SLOW = {
    "torchrun": "two processes that each load torch",
    "python -m conformance.audit": "seconds to minutes of multiprecision arithmetic",
    "python -m flowpp.train cifar10": "image size and layout of the released model",
    "python -m flowpp.convert VARIABLES.npz": "as above",
    "python -m flowpp.evaluate runs/released": "as above",
    "python -m flowpp.convert runs/released": "as above",
    "python -m flowpp.train photos": "images of 32x32",
    "python -m flowpp.train --preset small": "a layout for the images' size",
    "python -m conformance.released": "hundreds of recorded arrays",
}
"""Prefixes of commands that only -m slow runs, with the reason. Their flags are always checked."""

EXIT_STATUS = {
    "python -m conformance --adapter my_flows:MyFlows": 1,  # an adapter with a mistake
    "python -m conformance.audit --adapter conformance.audit.subjects.specimens:ClampedLogit": 1,
}
"""Prefixes of commands that are expected to fail, with their exit status."""

COMPILED_ONLY = {
    "findings.md": "other libraries' code: tests/interop/test_findings.py runs it",
    "extending.md": "excerpts of files, without their imports",
    'train(presets.get("digits")': "minutes; tests/training/test_digits.py trains the same",
}
"""Pages, or parts of Python blocks, that are compiled but not run, with the reason."""

NEEDED = {"from flowpp.interop import onnx": ("onnxscript", "onnxruntime")}
"""Parts of Python blocks, and the packages of an extra without which the block is skipped."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, line and text."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block, without comments."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The command split as a shell splits it."""
        return shlex.split(self.text)

    def matches(self, table: dict[str, object]) -> bool:
        """Return whether a key of the table is a prefix of the command."""
        return any(has_prefix(self.text, prefix) for prefix in table)

    @property
    def fast(self) -> str:
        """The command line that tests run."""
        text = self.text
        for original, replacement, _ in SUBSTITUTIONS:
            text = text.replace(original, replacement)
        for prefix, flags, _ in EXTRA_FLAGS:
            if has_prefix(self.text, prefix):
                return f"{text} {flags}".strip()
        return text

    @property
    def expected_status(self) -> int:
        """The expected exit status."""
        matching = (s for prefix, s in EXIT_STATUS.items() if has_prefix(self.text, prefix))
        return next(matching, 0)


def has_prefix(text: str, prefix: str) -> bool:
    """Return whether a command starts with these words; a prefix may end within a path."""
    return text == prefix or (
        text.startswith(prefix) and (prefix.endswith("/") or text[len(prefix)] in " /:")
    )


def blocks(language: str) -> list[Block]:
    """Return all fenced blocks of a language, in page order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 2
            found.append(Block(page.name, line, match[1]))
    return found


def commands() -> list[Command]:
    """Return all commands of the shell blocks; `a && b` is two, a backslash joins lines."""
    found = []
    for block in blocks("sh"):
        joined = ""
        for number, line in enumerate(block.text.splitlines(), block.line):
            joined += re.sub(r"\s+#.*|^#.*", "", line).strip()
            if joined.endswith("\\"):
                joined = joined[:-1]
                continue
            parts = [part.strip() for part in joined.split("&&")]
            found += [Command(block.page, number, part) for part in parts if part]
            joined = ""
    return found
