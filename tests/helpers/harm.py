"""Ways to spoil a file, each drawn from a seed."""

from __future__ import annotations

import copy
import json
import random

WRONG = (
    None, True, False, -1, 0, 3, 10**30, -(10**30), 10**400, 1e308, float("inf"), float("nan"),
    "", "x", "9" * 5000, "columns 999999999", "squeeze, " * 50 + "squeeze", "\ud800", [], [[]],
    {}, {"a": 1}, [1, 2, 3], [10**9, 10**9, 10**9], "../../evil", "/dev/zero",
)  # fmt: skip
NO_JSON = (b"[" * 100_000, b"\xff\xfe{}", b"", b'{"a":' + b"9" * 5000 + b"}")


def bytes_of(raw: bytes, seed: int) -> bytes:
    """The file truncated, with bits flipped, a piece overwritten, cut out, or repeated."""
    draw = random.Random(seed)
    harmed = bytearray(raw)
    begin = draw.randrange(len(raw))
    end = min(len(raw), begin + draw.choice((1, 8, 100, 5000)))
    match seed % 6:
        case 0:
            del harmed[begin:]
        case 1:
            harmed[begin] ^= 1 << draw.randrange(8)
        case 2:  # where headers are
            for _ in range(8):
                harmed[draw.randrange(min(len(raw), 600))] = draw.choice((0, 1, 127, 128, 255))
        case 3:
            harmed[begin:end] = bytes([draw.choice((0, 255))]) * (end - begin)
        case 4:
            del harmed[begin:end]
        case _:
            harmed[begin:begin] = harmed[begin:end] * 3
    return bytes(harmed)


def values_of(value: object, seed: int) -> object:
    """Plain values with something of another kind in one or two places."""
    draw = random.Random(seed)
    harmed = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2))):
        place, name = draw.choice(_places(harmed) or [({}, "a")])
        if draw.random() < 0.2:
            del place[name]
        else:
            place[name] = draw.choice(WRONG)
    return harmed


def json_of(value: object, seed: int) -> bytes:
    """A JSON file of other values than belong there, or one that is none."""
    if seed % 8 == 7:
        return NO_JSON[seed // 8 % len(NO_JSON)]
    text = json.dumps(values_of(value, seed))
    return bytes_of(text.encode(), seed) if seed % 8 == 6 else text.encode()


def _places(value: object) -> list[tuple[dict | list, str | int]]:
    items = list(value.items()) if isinstance(value, dict) else []
    items += list(enumerate(value)) if isinstance(value, list) else []
    inner = [place for _, item in items for place in _places(item)]
    return [(value, name) for name, _ in items] + inner  # type: ignore[misc]
