"""Known failures, listed in a file with their reasons.

The file has plain lines, `case, law, dtype, reason` (`*` for any), or is TOML:

    [[xfail]]
    case = "mixture_logistic/*"
    law = "inverse_gradients"
    dtype = "float32"
    reason = "the inverse is a bisection without a gradient"

A listed cell that fails is reported as expected, with its reason. One that holds is reported as a
failure, so that the list is kept up to date. One that is not supported stays so.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.adapter import DTYPES
from conformance.reports.result import FAILING, Result


@dataclass(frozen=True)
class Xfail:
    """A known failure: patterns for case, law and dtype, and the reason."""

    case: str
    law: str
    dtype: str
    reason: str

    def matches(self, result: Result) -> bool:
        return all(
            fnmatch.fnmatchcase(getattr(result, name), getattr(self, name))
            for name in ("case", "law", "dtype")
        )


def read(file: str | Path, *, cases: Iterable[str], laws: Iterable[str]) -> list[Xfail]:
    """Load the known failures from a file.

    Raises:
        ValueError: The file cannot be read, an entry has no reason, or its case, law or dtype
            does not exist.
    """
    path = Path(file)
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"cannot read the known failures {file}: {error.strerror}") from error
    found = _from_toml(text, path) if path.suffix == ".toml" else _from_lines(text, path)
    known = {"case": list(cases), "law": list(laws), "dtype": list(DTYPES)}
    for xfail in found:
        for kind, names in known.items():
            if not fnmatch.filter(names, getattr(xfail, kind)):
                raise ValueError(f"{path}: no {kind} {getattr(xfail, kind)!r}")
        if not xfail.reason:
            raise ValueError(f"{path}: no reason given for {xfail.case}, {xfail.law}")
    return found


def apply(result: Result, xfails: Iterable[Xfail]) -> Result:
    """Return the result as the list of known failures changes it."""
    for xfail in xfails:
        if not xfail.matches(result):
            continue
        if result.status in FAILING:
            message = f"expected ({xfail.reason}): {result.message}"
            return dataclasses.replace(result, status="expected", message=message)
        if result.status == "holds":
            message = f"listed as a known failure ({xfail.reason}), but it holds: unlist it"
            return dataclasses.replace(result, status="fails", message=message)
    return result


def _from_lines(text: str, path: Path) -> list[Xfail]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        parts = [part.strip() for part in line.split(",", 3)]
        if len(parts) != 4:
            raise ValueError(
                f"{path}, line {number}: must be `case, law, dtype, reason`, got {line!r}"
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
            raise ValueError(f"{path}: an xfail has no field {', '.join(sorted(unknown))}")
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
    for name in ("tomllib", "tomli"):  # tomllib is in the standard library since Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ValueError(
        "reading TOML needs Python 3.11 or the package tomli: list the known failures as lines"
    )
