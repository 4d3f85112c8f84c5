"""Seeded corruption of files and of JSON values."""

from __future__ import annotations

import copy
import json
import random

WRONG_VALUES = (
    None, True, False, -1, 0, 3, 10**30, -(10**30), 10**400, 1e308, float("inf"), float("nan"),
    "", "x", "9" * 5000, "columns 999999999", "squeeze, " * 50 + "squeeze", "\ud800", [], [[]],
    {}, {"a": 1}, [1, 2, 3], [10**9, 10**9, 10**9], "../../evil", "/dev/zero",
)  # fmt: skip
NOT_JSON = (b"[" * 100_000, b"\xff\xfe{}", b"", b'{"a":' + b"9" * 5000 + b"}")


def corrupt_bytes(raw: bytes, seed: int) -> bytes:
    """Truncate the content, flip bits, or overwrite, cut out or repeat a piece of it."""
    draw = random.Random(seed)
    corrupted = bytearray(raw)
    start = draw.randrange(len(raw))
    stop = min(len(raw), start + draw.choice((1, 8, 100, 5000)))
    match seed % 6:
        case 0:
            del corrupted[start:]
        case 1:
            corrupted[start] ^= 1 << draw.randrange(8)
        case 2:  # in the headers
            for _ in range(8):
                position = draw.randrange(min(len(raw), 600))
                corrupted[position] = draw.choice((0, 1, 127, 128, 255))
        case 3:
            corrupted[start:stop] = bytes([draw.choice((0, 255))]) * (stop - start)
        case 4:
            del corrupted[start:stop]
        case _:
            corrupted[start:start] = corrupted[start:stop] * 3
    return bytes(corrupted)


def corrupt_values(value: object, seed: int) -> object:
    """Remove one or two of the plain values, or replace them by ones of another kind."""
    draw = random.Random(seed)
    corrupted = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2))):
        container, name = draw.choice(_places(corrupted) or [({}, "a")])
        if draw.random() < 0.2:
            del container[name]
        else:
            container[name] = draw.choice(WRONG_VALUES)
    return corrupted


def corrupt_json(value: object, seed: int) -> bytes:
    """Return JSON with wrong values, damaged JSON, or no JSON at all."""
    if seed % 8 == 7:
        return NOT_JSON[seed // 8 % len(NOT_JSON)]
    text = json.dumps(corrupt_values(value, seed))
    return corrupt_bytes(text.encode(), seed) if seed % 8 == 6 else text.encode()


def _places(value: object) -> list[tuple[dict | list, str | int]]:
    items = list(value.items()) if isinstance(value, dict) else []
    items += list(enumerate(value)) if isinstance(value, list) else []
    inner = [place for _, item in items for place in _places(item)]
    return [(value, name) for name, _ in items] + inner  # type: ignore[misc]
