"""Reader of pickled containers and uint8 arrays that runs no code from the pickle.

A pickle is a program that may import and call any function. The CIFAR-10 archive is distributed
as pickles, so this reader resolves each imported name to a stand-in defined here and refuses all
others. No NumPy function is called with arguments from a pickle.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import reprlib
from math import prod
from typing import Any

import numpy as np

MAX_DIMENSIONS = 8

# A list that contains itself several times has exponentially many paths: repr() may not end.
_short = reprlib.Repr()
_short.maxlevel = 2


class UnsafePickleError(ValueError):
    """A pickle asks for something that image data never needs."""


class _DType:
    """Stand-in for `numpy.dtype` that accepts uint8 only."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind not in ("u1", b"u1"):
            raise UnsafePickleError(f"array must have dtype uint8, got dtype {_short.repr(kind)}")

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment, which do not matter for single bytes."""


class _NDArray:
    """Stand-in for `numpy.ndarray`."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Set the array from (version, shape, dtype, is_fortran, bytes), as NumPy writes it."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise UnsafePickleError("array state must have five entries, got another structure")
        _, shape, dtype, is_fortran, raw = state
        self.array = _uint8_array(shape, dtype, "F" if is_fortran else "C", raw)


def _uint8_array(shape: Any, dtype: Any, order: Any, raw: Any) -> np.ndarray:
    if isinstance(raw, str):  # Python 2 pickles bytes as text
        raw = raw.encode("latin1")
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
        raise UnsafePickleError(
            f"array must have dtype uint8 and bytes, got {type(dtype)} and {type(raw)}"
        )
    if not (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(isinstance(n, int) and 0 <= n <= len(raw) for n in shape)
        and prod(shape) == len(raw)
    ):
        raise ValueError(
            f"array of shape {_short.repr(shape)} does not match its {len(raw)} bytes"
        )
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
        self.size = self.remaining = len(data)

    def find_class(self, module: str, name: str) -> Any:
        """Resolve an imported name to a stand-in, or raise UnsafePickleError."""
        if (module, name) == _ENCODE:
            return self.encode
        if (module, name) not in _STAND_INS:
            found = f"{module}.{name}"[:80]
            raise UnsafePickleError(f"pickle must import only array constructors, got {found}")
        return _STAND_INS[module, name]

    def encode(self, text: Any, encoding: Any) -> bytes:
        """Encode text, in total no more than the file's size.

        Without the limit a pickle could encode one long text a million times.
        """
        if not isinstance(text, str) or encoding != "latin1":
            raise UnsafePickleError(
                f"text must be a string in latin1, got {type(text).__name__} in "
                f"{_short.repr(encoding)}"
            )
        self.remaining -= len(text)
        if self.remaining < 0:
            raise UnsafePickleError(f"text must fit the file's {self.size} bytes, got more")
        return text.encode("latin1")


def _check_memo(data: bytes) -> None:
    """Refuse memo indices beyond the file's size: the unpickler allocates up to the index."""
    for operation, argument, _ in pickletools.genops(data):
        index = argument if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") else None
        if index is not None and index > len(data):
            raise UnsafePickleError(
                f"memo index must be at most {len(data)}, the file's size, got {index}"
            )


def loads(data: bytes) -> Any:
    """Return the value that a pickle describes; keys and text of Python 2 come back as bytes.

    Raises:
        UnsafePickleError: A name or dtype outside the accepted ones.
        ValueError: A truncated or damaged pickle.
    """
    try:
        _check_memo(data)
        value = _Unpickler(data).load()
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"truncated or damaged pickle ({reason})") from error
    return _replace_stand_ins(value)


def _replace_stand_ins(value: Any) -> Any:
    """Replace stand-ins by their arrays, at the top and one level down in a dictionary.

    Not deeper, since nested lists may have exponentially many paths.
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
