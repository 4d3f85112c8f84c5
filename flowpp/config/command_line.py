"""What the command lines share: parsing with tyro, and mistakes told in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro


def parse(
    cls: type, argv: Sequence[str] | None, *, prog: str, description: str, **given: Any
) -> Any:
    """An instance of the dataclass `cls` from command-line arguments.

    Args:
        cls: the settings; nested dataclasses become dotted flags.
        argv: the arguments; those of the process if None.
        prog: the command, for the help text.
        description: the first lines of the help text.
        **given: passed on to `tyro.cli`, such as `default`.

    Unknown or malformed flags end the process with status 2 and a suggestion.
    """
    return tyro.cli(
        cls, args=argv, prog=prog, description=description, use_underscores=True, **given
    )


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a mistake of the user inside the block into one line on standard error, and status 2.

    Wrap the parts that read settings and files, not the computation: an error there is the
    program's own, and its traceback is wanted.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


def warn(line: str) -> None:
    """A line for the reader that is no part of the answer: on standard error."""
    print(line, file=sys.stderr)
