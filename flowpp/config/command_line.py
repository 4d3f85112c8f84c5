"""Command-line parsing and error reports shared by the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro

import flowpp
from flowpp.config.mistakes import captured_help, one_line_errors


def parse(
    cls: type, argv: Sequence[str] | None, *, prog: str, description: str, **options: Any
) -> Any:
    """Build the dataclass `cls` from command-line arguments.

    `--version` prints the version and exits.

    Args:
        cls: Settings; nested dataclasses become dotted flags.
        argv: Arguments; those of the process if None.
        prog: Name of the command in the help text.
        description: First lines of the help text.
        **options: Further arguments of `tyro.cli`, such as `default`.

    Raises:
        ValueError: Unknown or malformed flags, with a suggestion, or values out of range.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--version" in argv:
        print(f"flowpp {flowpp.__version__}")
        raise SystemExit(0)

    def read(arguments: Sequence[str]) -> Any:
        return tyro.cli(
            cls, args=arguments, prog=prog, description=description, use_underscores=True,
            **options,
        )  # fmt: skip

    if "-h" in argv or "--help" in argv:  # in the width of the terminal
        return read(argv)
    with one_line_errors(lambda: captured_help(lambda: read(["--help"]))):
        return read(argv)


@contextmanager
def user_errors() -> Iterator[None]:
    """Report a user's error inside the block as one line on standard error, with status 2.

    For code that reads settings and files, not for the computation, where an error is a bug and
    needs its traceback.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # not an error of the user: the reader of standard output has closed it
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


def warn(line: str) -> None:
    """Print a line on standard error, apart from the command's output."""
    print(line, file=sys.stderr)
