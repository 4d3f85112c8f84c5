"""What float32 means in matrix products and convolutions: IEEE arithmetic or TF32.

On CUDA devices of compute capability 8.0 or later, torch may round the factors of float32 products
to the 10 bits of TF32; for convolutions it does so by default. It has two interfaces for this:
`allow_tf32`, and the newer `fp32_precision`, a tree of switches of which an unset one follows its
parent. After a change through the newer interface, reading the older one may raise an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Float32 = Literal["ieee", "tf32"]

_TORCH: Any = torch.backends  # its stubs lack most of the switches


class _Block:
    """An open block, and what restores the switches at its end; None if it has set none."""

    def __init__(self, restore: Callable[[], None] | None) -> None:
        self.restore = restore


_open: list[_Block] = []
"""Blocks of all threads that have not ended, in the order of their beginnings."""
_lock = threading.Lock()


class _IeeeConvolutions:
    """Open blocks of `ieee_convolutions`, of all threads together."""

    count = 0
    restore: Callable[[], None]


_ieee = _IeeeConvolutions()
_none_open = threading.Condition(_lock)
"""Notified when the last of these blocks has ended: only then other switches may be set."""


@contextmanager
def float32_precision(meaning: Float32) -> Iterator[None]:
    """Set what float32 means in matrix products and convolutions inside the block.

    The switches are torch's own, for the whole process. They are restored at the end, also after
    blocks of several threads that overlap, of which the last to begin decides. On the CPU float32
    is IEEE arithmetic with either setting.

    Args:
        meaning: "ieee", or "tf32" to allow TF32 on CUDA devices that have it.

    Raises:
        ValueError: `meaning` is neither.
    """
    if meaning not in ("ieee", "tf32"):
        raise ValueError(f"float32 must mean 'ieee' or 'tf32', got {meaning!r}")
    with _none_open:
        _none_open.wait_for(lambda: not _ieee.count)
        block = _Block(_set(meaning))
        _open.append(block)
    try:
        yield
    finally:
        with _none_open:
            _none_open.wait_for(lambda: not _ieee.count)
            _end(block)


def _end(block: _Block) -> None:
    """Restore the switches, or leave that to the next block if one has begun since."""
    later = _open[_open.index(block) + 1 :]
    _open.remove(block)
    if block.restore is None:
        return
    if later:
        later[0].restore = block.restore
    else:
        block.restore()


def _set(meaning: Float32) -> Callable[[], None] | None:
    """Set the switches; return what restores them, or None if they were set already."""
    cuda, cpu = _TORCH.cudnn, _TORCH.mkldnn  # `cudnn` is also the parent of `cuda.matmul`
    settings: list[tuple[Any, Any, str]] = [
        (cuda, _TORCH, meaning),
        (_TORCH.cuda.matmul, cuda, meaning),
        (cuda.conv, cuda, meaning),
        # Their parent is left out: in torch 2.13, setting it sets the root.
        (cpu.matmul, _TORCH, "ieee"),
        (cpu.conv, _TORCH, "ieee"),
    ]
    older = _matmul_precision()
    consistent = "highest" if meaning == "ieee" else "high"
    if older == consistent and _is_set(settings):
        return None
    before = [(switch, _own_value(switch, parent)) for switch, parent, _ in settings]

    def restore() -> None:
        if older != _matmul_precision():
            torch.set_float32_matmul_precision(older)
        for switch, value in before:
            if switch is not cuda.conv or value != "none":
                switch.fp32_precision = value

    try:
        if older != consistent:
            # torch.compile reads matmul's older switch, which this sets along with the newer one.
            torch.set_float32_matmul_precision(consistent)
        for switch, _, value in settings:
            # An unset switch already follows its parent. That of convolutions must not be set:
            # nothing would unset it again.
            if switch.fp32_precision != value:
                switch.fp32_precision = value
    except BaseException:
        restore()
        raise
    return restore


@contextmanager
def ieee_convolutions() -> Iterator[None]:
    """Compute convolutions of float32 in IEEE arithmetic inside the block.

    Does part of the work of `float32_precision` in microseconds, for use in every layer. Of
    blocks of several threads that overlap, the last one to end restores the switches. Inside,
    no `float32_precision` may begin or end in the same thread: it waits for the end.
    """
    with _lock:
        counted = _ieee.count > 0 or _TORCH.cudnn.conv.fp32_precision == "tf32"
        if counted:
            if not _ieee.count:
                _ieee.restore = _set_ieee_convolutions()
            _ieee.count += 1
    try:
        yield
    finally:
        if counted:
            with _none_open:
                _ieee.count -= 1
                if not _ieee.count:
                    _ieee.restore()
                    _none_open.notify_all()


def _set_ieee_convolutions() -> Callable[[], None]:
    """Switch TF32 off for convolutions; return what switches it on again."""
    cuda = _TORCH.cudnn
    own = "none" if cuda.fp32_precision == _TORCH.fp32_precision else cuda.fp32_precision
    cuda.fp32_precision = "ieee"
    follows = cuda.conv.fp32_precision == "ieee"
    if not follows:
        cuda.conv.fp32_precision = "ieee"

    def restore() -> None:
        if not follows:
            cuda.conv.fp32_precision = "tf32"
        cuda.fp32_precision = own

    return restore


def precision_name(precision: str, dtype: torch.dtype, device: torch.device) -> str:
    """Return the precision in which a model of this dtype is computed when asked for another.

    A model in float64 has only that, and TF32 needs a CUDA device.
    """
    if dtype == torch.float64:
        return "float64"
    return "float32" if precision == "tf32" and device.type != "cuda" else precision


def tf32_switches() -> dict[str, bool]:
    """Return whether matrix products and convolutions may be rounded to TF32 on CUDA devices."""
    return {
        "matmul": _TORCH.cuda.matmul.fp32_precision == "tf32",
        "convolution": _TORCH.cudnn.conv.fp32_precision == "tf32",
    }


def _is_set(settings: list[tuple[Any, Any, str]]) -> bool:
    # "none" is IEEE arithmetic.
    return all(
        switch.fp32_precision in ((value, "none") if value == "ieee" else (value,))
        for switch, _, value in settings
    )


def _own_value(switch: Any, parent: Any) -> str:
    """Return the value of a switch, "none" if it is unset and follows its parent."""
    root = parent is _TORCH
    own_of_parent = parent.fp32_precision if root else _own_value(parent, _TORCH)
    read = []
    try:
        for value in ("ieee", "tf32"):
            parent.fp32_precision = value
            read.append(switch.fp32_precision)
    finally:
        parent.fp32_precision = own_of_parent
    return read[0] if read[0] == read[1] else "none"


def _matmul_precision() -> str:
    """Return matmul's older switch: "highest", "high" or "medium"."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer switch is "tf32" while this one has its default
        return "highest"
