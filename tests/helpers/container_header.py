"""The header of a file of compressed images, read and replaced."""

from __future__ import annotations

import hashlib
import json
import zlib

from flowpp.coding.container import FIXED, MAGIC


def header_of(content: bytes) -> dict:
    _, _, length, _ = FIXED.unpack_from(content)
    return json.loads(zlib.decompress(content[FIXED.size : FIXED.size + length]))


def with_header(content: bytes, header: bytes) -> bytes:
    """The file with another header, and a right SHA-256."""
    _, version, length, _ = FIXED.unpack_from(content)
    rest = zlib.compress(header) + content[FIXED.size + length :]
    size = len(zlib.compress(header))
    return FIXED.pack(MAGIC, version, size, hashlib.sha256(rest).digest()) + rest
