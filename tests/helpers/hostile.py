"""Hostile variants of files: fields of their headers changed, checksums made to fit again."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable

from corrupt import corrupt_bytes, corrupt_values

SIZES = (0, 1, 2, 255, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
NAMES = (
    b"", b".", b"..", b"../evil.png", b"/etc/passwd", b"a\0b.png", b"\xff\xfe.png", b"a/" * 4000,
    b"train/x.png", b".hidden.png", b"con.png", "\u202egnp.exe".encode(), b"x" * 60_000,
)  # fmt: skip


def hostile(raw: bytes, name: str, seed: int) -> bytes:
    """Return a variant of a file, by the kind that its name tells."""
    change = CHANGES.get(name.rpartition(".")[2], corrupt_bytes)
    return corrupt_bytes(raw, seed) if seed % 3 == 0 else change(raw, seed)


def change_safetensors(raw: bytes, seed: int) -> bytes:
    """Change values of the header; the offsets of the data may no longer fit."""
    size = int.from_bytes(raw[:8], "little")
    header = corrupt_values(json.loads(raw[8 : 8 + size]), seed)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def change_npy(raw: bytes, seed: int) -> bytes:
    """Change the header of an array: type, order, shape or version."""
    draw = random.Random(seed)
    length = struct.unpack("<H", raw[8:10])[0]
    header, data = raw[10 : 10 + length].decode(), raw[10 + length :]
    numbers = "-1", "0", "4294967296", "9" * 40, "True", "1.5", "'a'", "()", "1" * 5000
    types = "|u1", "<u2", ">u2", "|O", "<f8", "|S0", "|V2147483647", "<U1", "M8[ns]", "|b1", "c"
    match draw.randrange(5):
        case 0:
            start, stop = header.index("(") + 1, header.index(")")
            header = header[:start] + ", ".join(draw.choices(numbers, k=4)) + header[stop:]
        case 1:
            header = header.replace("|u1", draw.choice(types))
        case 2:
            header = header.replace(
                "False", draw.choice(("True", "None", "[]", "__import__('os')"))
            )
        case 3:
            header = draw.choice(
                ("(" * 3000, "{" * 3000, "[" + "0," * 4000 + "]", "-" * 9000 + "1")
            )
        case _:
            return raw[:6] + bytes((draw.choice((0, 1, 2, 3, 9)), 0)) + raw[8:]
    text = header.encode()
    return raw[:8] + struct.pack("<H", len(text)) + text + data


def change_zip(raw: bytes, seed: int) -> bytes:
    """Change a field of the list of members or of its end, or a member itself."""
    draw = random.Random(seed)
    changed = bytearray(raw)
    entry, end = raw.index(b"PK\1\2"), raw.rindex(b"PK\5\6")
    two, four = draw.choice(SIZES) & 0xFFFF, draw.choice(SIZES)
    match draw.randrange(4):
        case 0:
            at = draw.choice((4, 6, 8, 10, 28, 30, 32, 34))
            changed[entry + at : entry + at + 2] = struct.pack("<H", two)
        case 1:
            at = draw.choice((16, 20, 24, 42))
            changed[entry + at : entry + at + 4] = struct.pack("<I", four)
        case 2:
            at = draw.choice((8, 10, 20))
            changed[end + at : end + at + 2] = struct.pack("<H", two)
        case _:
            at = draw.choice((12, 16))
            changed[end + at : end + at + 4] = struct.pack("<I", four)
    return bytes(changed)


def change_members(change: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], bytes]:
    """Return a function that changes members of a zip by `change`, or the zip itself."""

    def changed(raw: bytes, seed: int) -> bytes:
        if seed % 4 == 1:
            return change_zip(raw, seed)
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(raw)) as before, zipfile.ZipFile(file, "w") as after:
            for index, member in enumerate(before.infolist()):
                content = before.read(member)
                wanted = member.filename.endswith((".npy", ".pkl", ".png")) and index == 0
                after.writestr(member.filename, change(content, seed) if wanted else content)
        return file.getvalue()

    return changed


def change_tar(raw: bytes, seed: int) -> bytes:
    """Change a header, with its checksum; or put many headers before it."""
    draw = random.Random(seed)
    packed = raw.startswith(b"\x1f\x8b")
    plain = bytearray(gzip.decompress(raw) if packed else raw)
    header = plain[:512]
    match draw.randrange(5):
        case 0:
            header[156] = draw.choice(b"0123456789ALKSVXDMxgZ\0\xff")
        case 1:
            header[124:136] = draw.choice(
                (b"77777777777\0", b"-0000001000\0", b"\xff" * 12, b"\x80" + bytes(10) + b"\1",
                 b"\x80" + b"\x7f" * 11, b"nonsense    ", b"00000000000\0")
            )  # fmt: skip
        case 2:
            header[:100] = draw.choice(NAMES)[:100].ljust(100, b"\0")
        case 3:
            header[345:500] = b"a/" * 77 + b"a"
        case _:
            kind = draw.choice((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g"))
            member = tarfile.TarInfo("././@LongLink")
            member.type, member.size = kind, draw.choice((0, 1, 20))
            chain = (member.tobuf(tarfile.GNU_FORMAT) + b"5 a=b\n".ljust(512, b"\0")) * 1500
            plain = bytearray(chain) + plain
    if not plain.startswith(b"././@LongLink"):
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        plain[:512] = header
    return gzip.compress(bytes(plain), 1) if packed else bytes(plain)


def change_end(raw: bytes, seed: int) -> bytes:
    """Change bytes of the last kilobyte, where parquet has its description."""
    draw = random.Random(seed)
    changed = bytearray(raw)
    for _ in range(draw.choice((1, 2, 8))):
        changed[-1 - draw.randrange(min(len(raw), 1000))] = draw.choice((0, 1, 127, 128, 255))
    return bytes(changed)


CHANGES: dict[str, Callable[[bytes, int], bytes]] = {
    "safetensors": change_safetensors,
    "npy": change_npy,
    "npz": change_members(change_npy),
    "pt": change_members(corrupt_bytes),
    "zip": change_members(corrupt_bytes),
    "tar": change_tar,
    "gz": change_tar,
    "parquet": change_end,
}
