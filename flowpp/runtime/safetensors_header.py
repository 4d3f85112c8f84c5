"""Limits on the header of a safetensors file, which its library does not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpp.runtime.bounded import FileError, open_regular

LARGEST = 64 << 30
"""Upper bound on the size of a file, in bytes."""
LARGEST_HEADER = 16 << 20
"""Upper bound on the header, in bytes: about 100 for each tensor."""
MOST_TENSORS = 50_000


def check_header(path: Path) -> None:
    """Require a regular file with a header of bounded size.

    Raises:
        FileNotFoundError: A missing file.
        OSError: The file cannot be opened.
        FileError: It is no regular file, or too large, or its header is.
    """
    with open_regular(path, LARGEST) as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise FileError(
            f"{path} must have a header of at most {LARGEST_HEADER:,} bytes, got {size:,}"
        )


def check_count(path: Path, names: Sequence[str]) -> Sequence[str]:
    """Return the names of the tensors.

    Raises:
        FileError: There are too many of them.
    """
    if len(names) > MOST_TENSORS:
        raise FileError(f"{path} must have at most {MOST_TENSORS:,} tensors, got {len(names):,}")
    return names
