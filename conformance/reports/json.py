"""JSON output of every command of the suite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np


def json_values(value: Any) -> Any:
    """Return `value` with dictionaries, lists, strings, numbers, booleans and None only.

    Arrays and tuples become lists, and NumPy scalars Python numbers. NaN and infinity become the
    strings "nan", "inf" and "-inf": JSON has none of them, and null would make them equal.
    """
    if isinstance(value, dict):
        return {str(name): json_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_values(value.tolist())
    if isinstance(value, np.generic):
        return json_values(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def write_json(file: Path, value: Any, *, indent: int = 1) -> None:
    """Write `json_values(value)` to a file, as UTF-8."""
    text = json.dumps(json_values(value), indent=indent, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")
