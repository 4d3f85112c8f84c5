"""Mistakes on a command line, each as one line with a suggestion."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

SYNONYMS = {
    "epochs": "steps", "iterations": "steps", "iters": "steps", "bs": "batch_size",
    "batch": "batch_size", "output": "out", "gpu": "device", "workers": "threads",
    "image_size": "size", "img_size": "size", "resolution": "size", "dataset": "path",
    "data": "path", "num_samples": "count", "n": "count", "which": "checkpoint",
}  # fmt: skip
"""Usual names of other programs, by the last part of this library's flags."""

LONGEST = 200
"""Characters of stray arguments that a message shows."""
TAIL = r"Perhaps you meant|Arguments? similar to|Argument helptext|For full helptext"
"""Beginnings of the lines that follow the message itself."""
REWORDED = {
    r"^Error parsing (--\S+): invalid literal for int\(\) with base 10: (.*)": (
        r"\1 must be a whole number, got \2"
    ),
    r"^Error parsing (--\S+): could not convert string to float: (.*)": (
        r"\1 must be a number, got \2"
    ),
    r"^invalid choice (.*) for argument '(.*)'\. Expected one of \((.*?),?\)\.?$": (
        r"\2 must be one of \3, got \1"
    ),
    r"^Missing value for argument '(.*?)'.*": r"\1 must have a value, got none",
    r"^Missing from .*?: (\S+) (.*?)( \(required\))?$": r"\1 is required: \2",
    r"^Error parsing Arguments: ": "",
    r"^Error parsing ([a-z]\w*(?:\.\w+)*): (?=\1\.)": "",  # the message names the setting
    r"^Error parsing ([a-z]\w*(?:\.\w+)*): ": r"\1: ",
}
"""Tyro's messages, and the same in this library's words."""


@contextlib.contextmanager
def one_line_errors(help_text: Callable[[], str]) -> Iterator[None]:
    """Report the errors that tyro prints in a box on one line; the exit status stays 2.

    Args:
        help_text: Function that returns the help of the command, from which flags are suggested.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _wide():
            yield
    except SystemExit as error:
        if error.code == 2 and printed.getvalue():
            line = message(printed.getvalue(), help_text())
            raise _Mistake(line) from None
        raise


class _Mistake(ValueError):
    """A mistake on the command line; the message is complete."""


def message(printed: str, help_text: str) -> str:
    """Return what tyro printed as one line, with the nearest flags of those in the help."""
    # Frames are drawn in ASCII where the terminal's encoding has no others.
    lines = [re.sub(r"^\s*[│|]\s|\s[│|]\s*$", "", line) for line in printed.splitlines()[1:]]
    text = " ".join(line.strip() for line in lines if re.search(r"\w", line))
    text = re.split(TAIL, text)[0].strip()
    unknown = re.match(r"Unrecognized options: (.*)", text)
    if unknown:
        flags = re.findall(r"(?<!\S)(--?[a-zA-Z][^\s,=]*)", unknown[1])
        known = dict.fromkeys(re.findall(r"--[a-z][\w.-]*", help_text))
        hints = dict.fromkeys(near for flag in flags for near in nearest_flags(flag, known))
        hint = f"; did you mean {' or '.join(hints)}?" if hints else ""
        names = ", ".join(flags) or _cut(unknown[1])
        return f"unrecognized option{'s' if len(flags) > 1 else ''} {names}{hint}"
    for pattern, replacement in REWORDED.items():
        text = re.sub(pattern, replacement, text)
    return text


def _cut(text: str) -> str:
    """Return the beginning of a text: a pattern such as *.png may stand for thousands of files."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def nearest_flags(flag: str, known: Iterable[str]) -> list[str]:
    """Return the known flags that a wrong one may stand for, at most 3.

    A flag is compared with the last part of each, in full and by its initials: --lr may be
    --training.learning_rate.
    """
    word = flag.lstrip("-").replace("-", "_").lower()
    last = word.rpartition(".")[2]
    last = SYNONYMS.get(last, last)
    flags = list(known)
    ends: dict[str, list[str]] = {}
    for name in flags:
        end = name.lstrip("-").rpartition(".")[2].replace("-", "_")
        ends.setdefault(end, []).append(name)
        if "_" in end:
            ends.setdefault("".join(part[0] for part in end.split("_") if part), []).append(name)
    whole = difflib.get_close_matches(
        word, [name.lstrip("-").replace("-", "_") for name in flags], n=1, cutoff=0.8
    )
    if whole:
        return [name for name in flags if name.lstrip("-").replace("-", "_") == whole[0]][:1]
    close = [last] if last in ends else difflib.get_close_matches(last, ends, n=1, cutoff=0.7)
    found = ends[close[0]] if close else []
    prefix = word.rpartition(".")[0]
    inside = [name for name in found if prefix and name.startswith(f"--{prefix}.")]
    return (inside or found)[:3]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'NAME'?" with the nearest known name, or nothing."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest_setting(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'NAME'?" with the setting that a word stands for, or nothing."""
    found = nearest_flags(name, known)
    return f"; did you mean {found[0]!r}?" if found else ""


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Keep tyro from breaking the lines of a message."""
    former = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        if former is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = former


def captured_help(show: Callable[[], Any]) -> str:
    """Return what a function prints before it exits."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit), _wide():
        show()
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
