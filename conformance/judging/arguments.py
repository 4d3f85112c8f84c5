"""Parser of command lines whose mistakes are one line, with the nearest known name."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that prints errors without the usage, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error and exit with status 2."""
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        unknown = re.findall(r"--[\w-]+", message) if "unrecognized" in message else []
        hints = "".join(nearest(flag, known) for flag in unknown[:1])
        self.exit(2, f"{self.prog}: error: {message}{hints}\n")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" with the nearest known name, or nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""
