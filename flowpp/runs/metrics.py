"""metrics.jsonl: one JSON object a line for each logged step or evaluation."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

from flowpp.runtime.bounded import parse_json, read_bounded
from flowpp.runtime.files import atomic_write, errors_naming, finite_or_null

HELD_OUT = "held_out_bits_per_dim"
"""Key that marks the record of an evaluation on held-out images."""
Record = dict[str, Any]
LARGEST, LONGEST = 256 << 20, 1 << 20
"""Upper bounds on the bytes of the file, which are a million records, and of one line."""
MOST_STEPS = 10**15
_short = reprlib.Repr()


def append_record(file: Path, record: Record) -> None:
    """Append one line."""
    with errors_naming(file), open(file, "a", encoding="utf-8") as opened:
        opened.write(_line(record))


def read_records(file: Path) -> list[Record]:
    """Read all records; an incomplete last line, as a crash leaves it, is skipped.

    Raises:
        OSError: the file cannot be read.
        ValueError: another line is damaged, and the message has its number; or the file is too
            large.
    """
    try:
        lines = read_bounded(file, LARGEST).splitlines()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_parse(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{file}, line {number} is damaged: {error}") from error
    return records


def discard_after(file: Path, step: int) -> None:
    """Remove the records after `step`, and the evaluation at `step`, which will be repeated."""
    kept = [
        record
        for record in read_records(file)
        if record["step"] < step or (record["step"] == step and HELD_OUT not in record)
    ]
    with atomic_write(file) as temporary:
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")


def _line(record: Record) -> str:
    return json.dumps(finite_or_null(record), allow_nan=False) + "\n"


def _parse(line: bytes) -> Record:
    if len(line) > LONGEST:
        raise ValueError(f"it must have at most {LONGEST:,} bytes, got {len(line):,}")
    record: Record = parse_json(line)
    if not isinstance(record, dict):
        raise TypeError(f"it must be an object, got {type(record).__name__}")
    step = record.get("step")
    if type(step) is not int or not 0 <= step <= MOST_STEPS:
        raise TypeError(f"step must be an integer in 0 ... {MOST_STEPS}, got {_short.repr(step)}")
    for name, value in record.items():
        _check(name, value)
    return record


def _check(name: str, value: Any) -> None:
    """Require a number, null, or numbers by name."""
    for inner in value.values() if isinstance(value, dict) else (value,):
        if isinstance(inner, int) and abs(inner) >= 1 << 63:
            raise TypeError(f"{_short.repr(name)} must be below 2^63, got {_short.repr(inner)}")
        if not (inner is None or isinstance(inner, int | float)):
            raise TypeError(f"{_short.repr(name)} must be a number, got {_short.repr(inner)}")
