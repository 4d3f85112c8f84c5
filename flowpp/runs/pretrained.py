"""Pretrained models of the package: their names, and the files that hold them.

Each is a checkpoint file, `flowpp/pretrained/NAME.safetensors`, which `python -m flowpp.convert
RUN --pretrained NAME` writes. Its facts also have `data_sha256`, the hash of the data set, and
`receipt`, what its weights reach on the held-out images.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from flowpp.config.command_line import warn as warn_on_standard_error
from flowpp.config.mistakes import nearest

FOLDER = Path(__file__).parents[1] / "pretrained"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""Form of a name: words of lower-case letters and digits, with hyphens between them."""


def names() -> list[str]:
    """Return the names of the pretrained models in the package."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def file_of(name: str) -> Path:
    """Return the file of a pretrained model, whether or not it exists."""
    return FOLDER / f"{name}.safetensors"


def is_pretrained(path: Path) -> bool:
    """Return whether `path` is the name of a pretrained model, and of nothing on disk."""
    return str(path) in names() and not path.exists()


def find_model(path: Path, warn: Callable[[str], None] | None = None) -> Path:
    """Return the file of the pretrained model named `path`, or `path` itself if that exists.

    Args:
        path: a run directory, a checkpoint file, or the name of a pretrained model.
        warn: called with a message if `path` exists and is also such a name; by default a line on
            standard error.

    Raises:
        FileNotFoundError: a single word that is neither; the message lists the names.
    """
    name, known = str(path), names()
    if path.exists():
        if name in known:
            kind = "folder" if path.is_dir() else "file"
            (warn or warn_on_standard_error)(
                f"{name} is the {kind} of that name; the pretrained model is {file_of(name)}"
            )
        return path
    if name in known:
        return file_of(name)
    if len(path.parts) == 1 and not path.suffix:
        raise FileNotFoundError(
            f"no run directory at {name} and no pretrained model of that name; the package has "
            f"{', '.join(known) or 'no pretrained models'}{nearest(name, known)}"
        )
    return path


def check_name(name: str) -> None:
    """Require a name for a pretrained model.

    Raises:
        ValueError: another form of name.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            "a pretrained model's name must be words of lower-case letters and digits, with "
            f"hyphens between them, such as cifar10-small, got {name!r}"
        )


def refuse_pretrained(path: Path, needs: str, instead: str) -> None:
    """Require something else than the name of a pretrained model.

    Args:
        path: a command's argument.
        needs: what the command needs of a run directory.
        instead: a command for pretrained models.

    Raises:
        ValueError: `path` is such a name.
    """
    if is_pretrained(path):
        raise ValueError(
            f"RUN must be a run directory, for {needs}, got the pretrained model {path}, which is "
            f"weights alone: python -m flowpp.{instead}"
        )
