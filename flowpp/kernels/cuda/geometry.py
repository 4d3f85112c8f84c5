"""How a launch of the mixture's CUDA kernels walks through memory: order, blocks, shared memory.

Everything here depends on shapes, strides and sizes alone, and is computed once for each of them.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass

AXES = 4
"""Largest number of indices of an element; as in mixture_kernels.cu."""
POINTERS = 18
FIELDS = struct.Struct(f"<{2 + 3 * AXES + 6}q")
"""The fields of `Task` in mixture_kernels.cu from `elements` to `half`."""
SHARED_BYTES = 48 * 1024
"""Shared memory that a block of any device has without asking for more."""
ALIGNMENT = 32
"""Bytes that aligning the rows in shared memory may take."""
MAX_THREADS = 64
"""At K = 32 a block of 64 threads takes 25 KB: eight or nine of them fit in an H100's 227 KB.
Smaller blocks do not fit better, and larger ones leave more shared memory unused."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a launch and the part of its arguments that describes memory."""

    threads: int
    blocks: int
    shared_bytes: int
    fields: bytes


@functools.lru_cache(maxsize=1024)
def geometry(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    arrays: int,
    item_size: int,
    stored_size: int,
) -> Geometry | None:
    """Choose how to launch on parameters of this layout.

    Args:
        shape: S + (values,) of each array of parameters.
        strides: Its strides, in numbers.
        arrays: 1 for packed parameters, 3 for logits, means and log-scales of their own.
        item_size: Bytes of a number in shared memory.
        stored_size: Bytes of a number in the parameters; 2 for bfloat16.

    Returns:
        None where S has no order in memory that `AXES` indices describe.

    Raises:
        ValueError: More components than fit into a block's shared memory.
    """
    axes = _axes(shape[:-1], strides[:-1])
    if len(axes) > AXES:
        return None
    values, elements = shape[-1], math.prod(shape[:-1])
    width = arrays * values
    dense = _is_dense(axes, values) and (strides[-1] == 1 or values == 1)
    pitch = _pitch(width, arrays, item_size) if dense else width
    threads = _threads(pitch * item_size)
    axes = [(1, 0, 0)] * (AXES - len(axes)) + axes
    sizes, element_strides, parameter_strides = zip(*axes, strict=True)
    passed, count = (values % 3, values // 3) if arrays == 1 else (0, values)
    fields = FIELDS.pack(
        elements, *sizes, *element_strides, *parameter_strides, strides[-1],
        arrays, passed, count, pitch, dense, stored_size == 2,
    )  # fmt: skip
    shared = threads * pitch * item_size + ALIGNMENT
    return Geometry(threads, -(-elements // threads), shared, fields)


def _axes(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return (size, stride of elements, stride of parameters) of axes, the largest stride first.

    Neighbours are merged where both strides allow it.
    """
    axes, element_stride = [], 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1:
            axes.append((size, element_stride, stride))
        element_stride *= size
    merged: list[tuple[int, int, int]] = []
    for size, element, parameter in sorted(axes, key=lambda axis: -axis[2]):
        if merged:
            above, above_element, above_parameter = merged[-1]
            if above_element == size * element and above_parameter == size * parameter:
                merged[-1] = (above * size, element, parameter)
                continue
        merged.append((size, element, parameter))
    return merged


def _is_dense(axes: list[tuple[int, int, int]], values: int) -> bool:
    expected = values
    for size, _, parameter in reversed(axes):
        if parameter != expected:
            return False
        expected *= size
    return True


def _pitch(width: int, arrays: int, item_size: int) -> int:
    """Return the distance of rows in shared memory.

    Threads read the same column of successive rows: an odd distance spreads these over all banks.
    One of which at most two threads share a bank is left as it is, because packed rows without
    gaps are copied 16 bytes at a time.
    """
    banks = 128 // item_size
    if arrays == 1 and math.gcd(width, banks) <= 2:
        return width
    return width | 1


def _threads(row_bytes: int) -> int:
    threads = MAX_THREADS
    while threads and threads * row_bytes + ALIGNMENT > SHARED_BYTES:
        threads //= 2
    if not threads:
        raise ValueError(
            f"the CUDA kernels need the parameters of an element to fit into {SHARED_BYTES} bytes "
            f"of shared memory, got {row_bytes} bytes; compute with flowpp.kernels.backend."
            "use_backend('torch')"
        )
    return threads
