"""The file of compressed images: its header, checksums and bits.

| bytes | content |
|---|---|
| 8 | `FLOWPP`, carriage return, line feed |
| 4 | version of the format, as all numbers little-endian: 1, or 2 with tiles |
| 4 | length of the header |
| 32 | SHA-256 of all bytes after it |
| header | JSON, compressed by zlib: see `Header` |
| 4 N | checksum of each image, or of each tile: CRC-32 of its place and pixels |
| the rest | words of 32 bits of the stack |
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.runtime.bounded import parse_json, read_bounded

from .bins import Precision
from .tiles import Tiling

FORBIDDEN = '\\:*?"<>|'
"""Characters of names that some systems forbid."""
MAGIC = b"FLOWPP\r\n"
VERSION, VERSION_WITH_TILES = 1, 2
FIXED = struct.Struct("<8sII32s")
LARGEST_FILE = 16 << 30
LARGEST_HEADER = 256 << 20
LARGEST_BATCH = 4096
LARGEST_SIDE = 1 << 16
LONGEST_NAME = 1024
LONGEST_PART = 255
"""Bytes of a file's or folder's name that file systems allow."""
LIMITS = {
    "levels": (2, LARGEST_SIDE),
    "delta_bits": (1, 26),
    "level_bits": (6, 16),
    "threads": (1, 256),
}
"""Least and largest value of the header's integers."""
SIGMAS = (0.5, 64.0)
"""Least and largest sigma."""


class ContainerError(ValueError):
    """A file that is not of this format, is damaged, or is of another version."""


@dataclass(frozen=True)
class Header:
    """Settings and facts that decoding the images requires.

    Args:
        run: name of the run or pretrained model, as it was given.
        model: hash of settings and weights.
        shape: (channels, height, width) of the images, or of their tiles.
        levels: number of values of a channel.
        delta_bits: -log2 of the width of a bin of numbers on the real line.
        level_bits: log2 of the number of bins of the dequantization noise.
        sigma: standard deviation of the noise, in bins.
        threads: number of threads that the model was computed with.
        arithmetic: hash of the model's output for a fixed input.
        machine: versions and processor, for messages.
        batches: see `sequence.Coded`.
        names: names of the files to write.
        sizes: (height, width) of each image, if they are cut into tiles; see `tiles.Tiling`.
    """

    run: str
    model: str
    shape: tuple[int, int, int]
    levels: int
    delta_bits: int
    level_bits: int
    sigma: float
    threads: int
    arithmetic: str
    machine: str
    batches: tuple[int, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] | None = None

    @property
    def tiling(self) -> Tiling:
        """Tiles of the images, one of each if they are of the model's size."""
        tile = self.shape[1], self.shape[2]
        return Tiling(tile, (tile,) * len(self.names) if self.sizes is None else self.sizes)

    @property
    def precision(self) -> Precision:
        """Widths of bins."""
        return Precision(2.0**-self.delta_bits, 1 << self.level_bits, self.sigma)


@dataclass(frozen=True, eq=False)
class Container:
    """A file of compressed images.

    Args:
        header: see `Header`.
        checksums: of each image or tile, uint32; see `checksum`.
        words: the stack, uint32.
        intact: whether the SHA-256 of the file was right.
    """

    header: Header
    checksums: np.ndarray
    words: np.ndarray
    intact: bool = True

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        facts, version = asdict(self.header), VERSION_WITH_TILES
        if self.header.sizes is None:
            del facts["sizes"]
            version = VERSION
        text = json.dumps(facts, separators=(",", ":")).encode()
        header = zlib.compress(text, 9)
        rest = header + _bytes_of(self.checksums) + _bytes_of(self.words)
        digest = hashlib.sha256(rest).digest()
        return FIXED.pack(MAGIC, version, len(header), digest) + rest

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Container:
        """Read a file's content.

        Args:
            content: all bytes of the file.
            where: name of the file, for messages.

        Raises:
            ContainerError: another format or version, a truncated file, or a header that is
                damaged. Other damage makes the result not `intact`.
        """
        if not content.startswith(MAGIC):
            raise ContainerError(f"{where} must be a file of flowpp.compress, got another format")
        if len(content) < FIXED.size:
            raise ContainerError(f"{where} is truncated: it has {len(content)} bytes")
        _, version, length, digest = FIXED.unpack_from(content)
        if version not in (VERSION, VERSION_WITH_TILES):
            raise ContainerError(
                f"{where} must be of version {VERSION} or {VERSION_WITH_TILES}, "
                f"got version {version}"
            )
        rest = content[FIXED.size :]
        if length > len(rest):
            raise ContainerError(f"{where} is truncated: its header needs {length} bytes")
        header = _read_header(rest[:length], where, tiled=version == VERSION_WITH_TILES)
        numbers = rest[length:]
        count = header.tiling.count
        if len(numbers) % 4 or len(numbers) < 4 * count:
            raise ContainerError(f"{where} is truncated: it has {len(numbers)} bytes of images")
        words = np.frombuffer(numbers, "<u4").astype(np.uint32)
        intact = hashlib.sha256(rest).digest() == digest
        return cls(header, words[:count], words[count:], intact)

    @classmethod
    def load(cls, path: Path) -> Container:
        """Read a file; raises as `from_bytes`, and OSError."""
        return cls.from_bytes(read_bounded(path, LARGEST_FILE), str(path))


def checksum(index: int, image: np.ndarray) -> int:
    """Return the CRC-32 of an image `(C, H, W)` at its place in the file."""
    return zlib.crc32(struct.pack("<Q", index) + image.astype("<u4").tobytes())


def _bytes_of(numbers: np.ndarray) -> bytes:
    return numbers.astype("<u4").tobytes()


def _read_header(compressed: bytes, where: str, *, tiled: bool) -> Header:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(compressed, LARGEST_HEADER)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("its length is wrong")
        return _checked(parse_json(text), tiled=tiled)
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise ContainerError(f"the header of {where} is damaged: {error}") from error


def _checked(facts: Any, *, tiled: bool) -> Header:
    """Return a header of the right kinds and within limits."""
    fields = set(Header.__dataclass_fields__) - (set() if tiled else {"sizes"})
    if not isinstance(facts, dict) or set(facts) != fields:
        raise ValueError("it has other fields")
    for name in ("run", "model", "arithmetic", "machine"):
        if not isinstance(facts[name], str) or len(facts[name]) > LONGEST_NAME:
            raise ValueError(f"{name} must be a text")
    for name, (low, high) in LIMITS.items():
        check_integer(name, facts[name], low, high)
    check_sigma(facts["sigma"])
    shape, batches, names = (_list(facts, name) for name in ("shape", "batches", "names"))
    for side in shape:
        check_integer("shape", side, 1, LARGEST_SIDE)
    for size in batches:
        check_integer("batches", size, 0, LARGEST_BATCH)
    if len(shape) != 3 or not names:
        raise ValueError("shape and names do not fit together")
    channels, height, width = shape
    sizes = _sizes(facts) if tiled else None
    every = ((height, width),) * len(names) if sizes is None else sizes
    coded = sum(max(1, size) for size in batches)
    if len(every) != len(names) or coded != Tiling((height, width), every).count:
        raise ValueError("shape, batches, names and sizes do not fit together")
    suffix = suffix_of((channels, height, width), facts["levels"])
    for name in names:
        check_name(name)
        if not name.endswith(suffix):
            raise ValueError(f"names must end in {suffix}, got {name!r:.100}")
    check_apart(names)
    lists = ("shape", "batches", "names", "sizes")
    kept = {name: facts[name] for name in facts if name not in lists}
    return Header(
        **kept, shape=(channels, height, width), batches=tuple(batches), names=tuple(names),
        sizes=sizes,
    )  # fmt: skip


def _sizes(facts: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of each image."""
    found = []
    for size in _list(facts, "sizes"):
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError("sizes must be pairs")
        for side in size:
            check_integer("sizes", side, 1, LARGEST_SIDE)
        found.append((size[0], size[1]))
    return tuple(found)


def _list(facts: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(facts[name], list):
        raise ValueError(f"{name} must be a list")
    return facts[name]


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Raise ValueError for what is not an integer in low ... high."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an integer in {low} ... {high}, got {value!r:.40}")


def check_sigma(value: Any) -> None:
    """Raise ValueError for what is not a float within `SIGMAS`."""
    low, high = SIGMAS
    if not (isinstance(value, float) and low <= value <= high):
        raise ValueError(f"sigma must be in {low:g} ... {high:g}, got {value!r:.40}")


def suffix_of(shape: tuple[int, int, int], levels: int) -> str:
    """Return the suffix of the files of images: PNG where it can hold them, else NPY."""
    return ".png" if shape[0] in (1, 3) and levels <= 256 else ".npy"


def check_name(name: Any) -> None:
    """Raise ValueError for a name that is not a relative path inside a folder."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"names must be texts of 1 ... {LONGEST_NAME} characters")
    parts = name.split("/")
    hostile = any(part in ("", ".", "..") for part in parts)
    if hostile or not name.isprintable() or any(c in name for c in FORBIDDEN):
        raise ValueError(
            f"names must be paths inside a folder, of printable characters other than "
            f"{' '.join(FORBIDDEN)}, got {name!r:.100}"
        )
    if any(len(part.encode()) > LONGEST_PART for part in parts):
        raise ValueError(
            f"names of files and folders must have at most {LONGEST_PART} bytes, got {name!r:.100}"
        )


def comparable_name(name: str) -> str:
    """Return a text that is equal for names that some file systems hold to be equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_apart(names: Sequence[str]) -> None:
    """Raise ValueError for names that are equal, or of which one is the folder of another."""
    by_key: dict[str, str] = {}
    for name in names:
        # No character sorts before this one, so that a folder is followed by what is in it.
        key = comparable_name(name).replace("/", "\0")
        if key in by_key:
            raise ValueError(f"names must differ, got {name!r:.100} twice")
        by_key[key] = name
    for folder, inner in itertools.pairwise(sorted(by_key)):
        if inner.startswith(folder + "\0"):
            raise ValueError(
                f"names must not be those of folders, got {by_key[folder]!r:.100} and "
                f"{by_key[inner]!r:.100}"
            )
