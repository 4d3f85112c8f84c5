"""Reads pickles of plain containers and uint8 arrays, and runs no code of theirs.

A pickle is a program: it may import any function and call it. The CIFAR-10 archive is distributed
as pickles, so this reader resolves each imported name to a stand-in defined here, and refuses all
others. numpy itself is never called with a pickle's arguments.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np

MOST_DIMENSIONS = 8


class UnsafePickleError(ValueError):
    """A pickle asks for something that a data file has no need of."""


class _DType:
    """Stands in for `numpy.dtype`: knows uint8 only."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind not in ("u1", b"u1"):
            raise UnsafePickleError(f"needed an array of uint8, got dtype {kind!r}")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment: without meaning for single bytes."""


class _NDArray:
    """Stands in for `numpy.ndarray`: remembers its shape and bytes."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, is_fortran, bytes), as numpy writes it."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise UnsafePickleError("needed an array state of five entries")
        _, shape, dtype, is_fortran, raw = state
        self.array = _uint8_array(shape, dtype, "F" if is_fortran else "C", raw)


def _uint8_array(shape: Any, dtype: Any, order: Any, raw: Any) -> np.ndarray:
    if isinstance(raw, str):  # Python 2 wrote bytes as text
        raw = raw.encode("latin1")
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
        raise UnsafePickleError("needed an array of uint8 with its bytes")
    if not (
        isinstance(shape, tuple)
        and len(shape) <= MOST_DIMENSIONS
        and all(isinstance(n, int) and 0 <= n <= len(raw) for n in shape)
        and prod(shape) == len(raw)
    ):
        raise ValueError(f"array of shape {shape!r} does not match its {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> _NDArray:
    return _NDArray()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _NDArray:
    result = _NDArray()
    result.array = _uint8_array(shape, dtype, order, raw)
    return result


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _NDArray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}
_ENCODE = ("_codecs", "encode")


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        """Resolve an imported name to a stand-in, or refuse."""
        if (module, name) == _ENCODE:
            return self.encode
        if (module, name) not in _STAND_INS:
            raise UnsafePickleError(f"pickle wants {module}.{name}, which no image file needs")
        return _STAND_INS[module, name]

    def encode(self, text: Any, encoding: Any) -> bytes:
        """Text to bytes; no more in all than the file is long.

        Else it could ask for one long text a million times.
        """
        if not isinstance(text, str) or encoding != "latin1":
            raise UnsafePickleError("needed text in latin1")
        self.left -= len(text)
        if self.left < 0:
            raise UnsafePickleError("the text is longer than its file")
        return text.encode("latin1")


def _check_memo(data: bytes) -> None:
    """A memo's places are numbered one by one; room for a billion would be made at once."""
    for operation, argument, _ in pickletools.genops(data):
        place = argument if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") else None
        if place is not None and place > len(data):
            raise UnsafePickleError(f"place {place} in a file of {len(data)} bytes")


def loads(data: bytes) -> Any:
    """The value that `data` describes; keys and text of Python 2 come back as bytes.

    Raises:
        UnsafePickleError: the pickle asks for a name or dtype outside the list.
        ValueError: the pickle is truncated or damaged.
    """
    try:
        _check_memo(data)
        value = _Unpickler(data).load()
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"truncated or damaged pickle ({what})") from error
    return _unwrap(value)


def _unwrap(value: Any) -> Any:
    """An array in place of its stand-in, and in a dictionary those one level down.

    No deeper: a list that holds itself a few times over has more paths than there are atoms.
    """
    if isinstance(value, dict):
        return {key: _array(entry) for key, entry in value.items()}
    return _array(value)


def _array(value: Any) -> Any:
    if not isinstance(value, _NDArray):
        return value
    if value.array is None:
        raise ValueError("truncated or damaged pickle (an array without contents)")
    return value.array
