"""Known failures, with reasons: a list that a cell is held against.

A file of plain lines, `case, law, dtype, reason` (`*` for any), or of TOML:

    [[xfail]]
    case = "mixture_logistic/*"
    law = "inverse_gradients"
    dtype = "float32"
    reason = "the inverse is a bisection without a gradient"

What is listed and fails is expected, and reported with its reason. What is listed and holds fails:
the list would otherwise rot. What is listed and not supported stays unsupported.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.judging.result import Result


@dataclass(frozen=True)
class Xfail:
    """A known failure: patterns for case, law and dtype, and why."""

    case: str
    law: str
    dtype: str
    reason: str

    def matches(self, cell: Result) -> bool:
        return all(
            fnmatch.fnmatchcase(getattr(cell, name), getattr(self, name))
            for name in ("case", "law", "dtype")
        )


def read(file: str | Path, *, cases: Iterable[str], laws: Iterable[str]) -> list[Xfail]:
    """The known failures of a file.

    Raises:
        ValueError: a line without a reason, or a case, law or dtype that there is not.
    """
    path = Path(file)
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"cannot read the known failures {file}: {error.strerror}") from error
    found = _from_toml(text, path) if path.suffix == ".toml" else _from_lines(text, path)
    known = {"case": list(cases), "law": list(laws), "dtype": ["float64", "float32"]}
    for xfail in found:
        for kind, names in known.items():
            if not fnmatch.filter(names, getattr(xfail, kind)):
                raise ValueError(f"{path}: no {kind} {getattr(xfail, kind)!r}")
        if not xfail.reason:
            raise ValueError(f"{path}: no reason given for {xfail.case}, {xfail.law}")
    return found


def apply(cell: Result, xfails: Iterable[Xfail]) -> Result:
    """The cell, held against the list."""
    for xfail in xfails:
        if not xfail.matches(cell):
            continue
        if cell.status == "fails":
            message = f"expected ({xfail.reason}): {cell.message}"
            return dataclasses.replace(cell, status="expected", message=message)
        if cell.status == "holds":
            message = f"listed as a known failure ({xfail.reason}), and it holds: unlist it"
            return dataclasses.replace(cell, status="fails", message=message)
    return cell


def _from_lines(text: str, path: Path) -> list[Xfail]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        parts = [part.strip() for part in line.split(",", 3)]
        if len(parts) != 4:
            raise ValueError(
                f"{path}, line {number}: `case, law, dtype, reason` wanted, got {line!r}"
            )
        found.append(Xfail(*parts))
    return found


def _from_toml(text: str, path: Path) -> list[Xfail]:
    toml = _toml_reader()
    try:
        entries = toml.loads(text).get("xfail", [])
    except toml.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    found = []
    for entry in entries:
        unknown = set(entry) - {"case", "law", "dtype", "reason"}
        if unknown:
            raise ValueError(f"{path}: an xfail has no {', '.join(sorted(unknown))}")
        found.append(
            Xfail(
                entry.get("case", "*"),
                entry.get("law", "*"),
                entry.get("dtype", "*"),
                entry.get("reason", ""),
            )
        )
    return found


def _toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # the first came with Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ValueError("this Python reads no TOML: give the known failures as plain lines")
