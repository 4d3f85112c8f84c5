"""metrics.jsonl: one JSON object a line for each logged step or evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flowpp.runtime.files import atomic_write, finite_or_null

HELD_OUT = "held_out_bits_per_dim"
"""Key that marks the record of an evaluation on held-out images."""
Record = dict[str, Any]


def append_record(file: Path, record: Record) -> None:
    """Append one line."""
    with open(file, "a", encoding="utf-8") as opened:
        opened.write(_line(record))


def read_records(file: Path) -> list[Record]:
    """Read all records; an incomplete last line, as a crash leaves it, is skipped.

    Raises:
        ValueError: another line is damaged; the message has its number.
    """
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_parse(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
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


def _parse(line: str) -> Record:
    record: Record = json.loads(line)
    record["step"] += 0  # TypeError if it is not a number
    if not isinstance(record.get(HELD_OUT, 0.0), int | float | None):
        raise TypeError(f"{HELD_OUT} must be a number, got {record[HELD_OUT]!r}")
    return record
