"""The shell and Python blocks of the README and docs/, and how each command is made quick.

A command in a document is what a reader would type. Tests run the same text after the
substitutions of `SUBSTITUTIONS`, with the flags of `MADE_QUICK` appended; what no test can run
stands in `NOT_RUN`, with the reason. There are no hidden blocks and no switches in the documents.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

SUBSTITUTIONS = (
    # Documents name a reader's files; these are made by the test (see conftest.py).
    ("cifar-10-python.tar.gz", "cifar.npz", "the published archive is a download of 170 MB"),
    ("--training.device cuda", "--training.device cpu", "not every machine has one"),
    ("tests/data/golden/", f"{ROOT}/tests/data/golden/", "commands run in a scratch folder"),
    ("--out runs/mine", "--out runs/new", "runs/mine is there already, for other commands"),
)
"""(what a document says, what is run, why)."""

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
MADE_QUICK = (
    ("python -m flowpp.train --resume runs/", "", "a run that is finished says its result again"),
    ("python -m flowpp.train", TINY_RUN, "two steps of a tiny model"),
    ("torchrun", TINY_RUN, "two steps of a tiny model"),
    ("python -m flowpp.convert VARIABLES.npz", TINY_MODEL, "the variables are a tiny model's"),
    ("python -m flowpp.evaluate", "--images 4 --importance-samples 2", "few images, few samples"),
    (
        "python -m flowpp.benchmark",
        "--what mixture --elements 1000 --components 2 --repeats 1 --no_peak_memory",
        "one small task",
    ),
)
"""(how a command begins, flags appended to it, why); the first that fits. Later flags win."""

NOT_RUN = {
    "pip install": "the package is installed for the tests; `tox -e package` installs it afresh",
    "python -m venv": "`tox -e package` makes one",
    ". .venv": "as above",
    "tox": "it runs these tests; its environments are looked up in tox.ini instead",
    "python -m conformance --adapter conformance.adapters.zuko:ZukoAdapter": (
        "needs zuko: `tox -e libraries` runs the adapters"
    ),
    "tensorboard": "a server that runs until it is stopped",
}
"""How a command begins that is not run, and why."""

SLOW = {
    "torchrun": "two processes, each loading torch",
    "python -m conformance.audit": "seconds to minutes of arithmetic in many digits",
    "python -m flowpp.train cifar10": "image size and layout of the released model",
    "python -m flowpp.convert VARIABLES.npz": "likewise",
    "python -m flowpp.evaluate runs/released": "likewise",
    "python -m flowpp.convert runs/released": "likewise",
    "python -m flowpp.train photos": "images of 32x32",
    "python -m flowpp.train --preset small": "a layout for the images' size",
    "python -m conformance.released": "hundreds of recorded arrays",
}
"""How a command begins that is run by -m slow alone, and why. Its flags are always checked."""

EXIT_STATUS = {
    "python -m conformance --adapter my_flows:MyFlows": 1,  # an adapter with a mistake
    "python -m conformance.audit --adapter conformance.audit.subjects.specimens:ClampedLogit": 1,
}
"""How a command begins that the documents say, or the substitutions make, not to succeed."""

COMPILED_ONLY = {
    "findings.md": "other libraries' code: run by tests/interop/test_findings.py, beside them",
    "extending.md": "excerpts of files, without their imports",
    'train(presets.get("digits")': "minutes; tests/training/test_digits.py trains the same",
}
"""A page, or part of a block, that is compiled and not run, and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, line, language and text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block: words as a shell reads them, comments left out."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    def fits(self, table: dict[str, object]) -> bool:
        """Whether it begins as an entry of the table says."""
        return any(begins(self.text, beginning) for beginning in table)

    @property
    def quick(self) -> str:
        """What is run in its place."""
        text = self.text
        for said, run, _ in SUBSTITUTIONS:
            text = text.replace(said, run)
        for beginning, flags, _ in MADE_QUICK:
            if begins(self.text, beginning):
                return f"{text} {flags}".strip()
        return text

    @property
    def status(self) -> int:
        """The exit status that is wanted."""
        return next((s for b, s in EXIT_STATUS.items() if begins(self.text, b)), 0)


def begins(text: str, beginning: str) -> bool:
    """Whether a command begins so, word for word; a beginning may end within a path."""
    return text == beginning or (
        text.startswith(beginning) and (beginning.endswith("/") or text[len(beginning)] in " /:")
    )


def blocks(language: str) -> list[Block]:
    """All fenced blocks of a language, page by page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 2
            found.append(Block(page.name, line, language, match[1]))
    return found


def commands() -> list[Command]:
    """All commands of the shell blocks, one a line; `a && b` is two, a backslash joins lines."""
    found = []
    for block in blocks("sh"):
        whole = ""
        for number, line in enumerate(block.text.splitlines(), block.line):
            whole += re.sub(r"\s+#.*|^#.*", "", line).strip()
            if whole.endswith("\\"):
                whole = whole[:-1]
                continue
            parts = [part.strip() for part in whole.split("&&")]
            found += [Command(block.page, number, part) for part in parts if part]
            whole = ""
    return found
