"""`python -m conformance`: judge an adapter by all laws; see `conformance.judging.command`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from conformance.reports.standard_output import exit_on_broken_pipe

# The suite makes thousands of small calls, which more threads slow down. NumPy and torch read the
# variable when they are loaded, so it is set before main() imports them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    from conformance.judging import command

    return command.main(arguments)


@contextmanager
def temporary_storage() -> Iterator[None]:
    """Keep Hypothesis, which simplifies counterexamples, from writing to the working directory."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)
        yield


if __name__ == "__main__":
    with exit_on_broken_pipe(), temporary_storage():
        sys.exit(main())
