"""The logistic mixture by the CUDA kernels.

Kernels are launched on torch's current stream. Temporary copies come from torch's allocator and
are used on that stream only, so that memory which is freed here may be used again by what follows
on the stream. Nothing waits for the device, so the kernels can be captured in a CUDA graph once
they are loaded; see `load`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.kernels.build_error import BuildError
from flowpp.runtime.notes import note_once

from . import build
from .geometry import FIELDS, POINTERS, Geometry, geometry

NAMES = {torch.float32: "float32", torch.float64: "float64"}
_ADDRESSES = struct.Struct(f"<{POINTERS}Q")
_SCALARS = struct.Struct("<2dq")
NONE = (0, 0, 0)
TASK = np.dtype((np.void, _ADDRESSES.size + FIELDS.size + _SCALARS.size))
"""The arguments of a kernel: `Task` in mixture_kernels.cu."""


@functools.cache
def is_available(device: int | None = None) -> bool:
    """Return whether torch finds a CUDA device, CuPy is installed and the kernels load on it.

    If only the last is not the case, a line says so. No other device is used: it may have no
    memory left, or refuse a second process.

    Args:
        device: Index of the device; None for the current one.
    """
    if not torch.cuda.is_available() or build.cupy() is None:
        return False
    try:
        load(device)
    except BuildError as error:
        note_once(
            "no kernels on a GPU",
            "note: torch's own operations compute the mixture on the GPU, with more time and "
            f"memory: {error}",
        )
        return False
    return True


def require(x: Tensor) -> None:
    """Validate that the kernels can compute on this tensor.

    Raises:
        RuntimeError: No CUDA device, no CuPy, or a tensor of another device or dtype.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("backend 'cuda' needs a CUDA device, and torch finds none")
    if build.cupy() is None:
        raise RuntimeError("backend 'cuda' needs CuPy: pip install 'flowpp[gpu]'")
    if x.device.type != "cuda" or x.dtype not in NAMES:
        raise RuntimeError(
            "backend 'cuda' needs float32 or float64 on a CUDA device, "
            f"got {x.dtype} on {x.device}"
        )


def load(device: torch.device | int | None = None) -> None:
    """Compile and load the kernels for a device; by default, for the current one.

    Call this before capturing a CUDA graph: loading cannot be captured.
    """
    index = device if isinstance(device, int) else torch.device(device or "cuda").index
    build.functions(torch.cuda.current_device() if index is None else index)


def forward(
    x: Tensor, parameters: Sequence[Tensor], floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx, as `cpu.mixture_logistic.forward`."""
    x = x.contiguous()
    read, plan = _readable(parameters, x)
    y, log_derivative = torch.empty_like(x), torch.empty_like(x)
    passed = read[0].shape[-1] % 3 if len(read) == 1 else 0
    leading = x.new_empty((passed, *x.shape))
    results = y.data_ptr(), log_derivative.data_ptr(), leading.data_ptr()
    _launch("forward", plan, x, read, results=results, scalars=(floor, 0.0, 0))
    return y, log_derivative, leading


def backward(
    x: Tensor,
    parameters: Sequence[Tensor],
    floor: float,
    grad_y: Tensor,
    grad_l: Tensor,
    grad_leading: Tensor,
) -> list[Tensor]:
    """Compute the gradients of x and of the parameters, as `cpu.mixture_logistic.backward`."""
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    grad_leading = grad_leading.contiguous()
    read, plan = _readable(parameters, x)
    targets = [torch.empty_like(p) for p in read]
    if any(t.stride() != p.stride() for t, p in zip(targets, read, strict=True)):
        # Parameters that share memory, or leave gaps: their gradients cannot lie as they do.
        read, plan = _readable([_copied(p) for p in read], x)
        targets = [torch.empty_like(p) for p in read]
    grad_x = torch.empty_like(x)
    _launch(
        "backward",
        plan,
        x,
        read,
        incoming=(grad_y.data_ptr(), grad_l.data_ptr(), grad_leading.data_ptr()),
        by_x=grad_x.data_ptr(),
        targets=_three(targets),
        scalars=(floor, 0.0, 0),
    )
    copied = (
        target if p is q else torch.empty_like(q).copy_(target)
        for target, p, q in zip(targets, read, parameters, strict=True)
    )
    return [grad_x, *copied]


def inverse(
    y: Tensor, parameters: Sequence[Tensor], floor: float, ulps: float, max_evaluations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve logit F(x) = y, as `cpu.mixture_logistic.inverse`.

    Each thread iterates until its own element is finished; there is no synchronization.
    """
    y = y.contiguous()
    read, plan = _readable(parameters, y)
    root, residual, width = (torch.empty_like(y) for _ in range(3))
    evaluations = torch.empty_like(y, dtype=torch.int64)
    outputs = root.data_ptr(), residual.data_ptr(), width.data_ptr(), evaluations.data_ptr()
    _launch("inverse", plan, y, read, roots=outputs, scalars=(floor, ulps, max_evaluations))
    return root, residual, width, evaluations


def _readable(parameters: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], Geometry]:
    """Return parameters that a kernel can read in place, copied where it could not."""
    read = list(parameters)
    narrow = x.dtype is torch.float32 and read[0].dtype is torch.bfloat16
    if not narrow or len(read) == 3:
        read = [p.to(x.dtype) for p in read]
    first, *others = read
    sizes = len(read), x.element_size(), first.element_size()
    plan, strides = None, first.stride()
    if all(p.stride() == strides for p in others):
        plan = geometry(first.shape, strides, *sizes)
    if plan is None:
        read = [_copied(p) for p in read]
        plan = geometry(first.shape, read[0].stride(), *sizes)
    assert plan is not None  # contiguous parameters have one axis
    return read, plan


def _copied(parameter: Tensor) -> Tensor:
    """Return a contiguous copy.

    In a tensor that is contiguous already, an axis of size 1 may have any stride.
    """
    shape, dtype, device = parameter.shape, parameter.dtype, parameter.device
    return torch.empty(shape, dtype=dtype, device=device).copy_(parameter)


def _three(tensors: Sequence[Tensor]) -> tuple[int, int, int]:
    """Return the addresses of one tensor or three; 0 for what is missing."""
    if len(tensors) == 1:
        return tensors[0].data_ptr(), 0, 0
    first, second, third = tensors
    return first.data_ptr(), second.data_ptr(), third.data_ptr()


def _launch(
    direction: str,
    plan: Geometry,
    x: Tensor,
    read: Sequence[Tensor],
    *,
    incoming: tuple[int, int, int] = NONE,
    results: tuple[int, int, int] = NONE,
    by_x: int = 0,
    targets: tuple[int, int, int] = NONE,
    roots: tuple[int, int, int, int] = (0, *NONE),
    scalars: tuple[float, float, int],
) -> None:
    """Launch a kernel; the arguments are addresses, in the order of `Task`."""
    if not plan.blocks:
        return
    addresses = _ADDRESSES.pack(
        x.data_ptr(), *_three(read), *incoming, *results, by_x, *targets, *roots
    )
    task = np.frombuffer(addresses + plan.fields + _SCALARS.pack(*scalars), dtype=TASK)
    index = x.device.index
    kernel = build.functions(index)[f"mixture_{direction}_{NAMES[x.dtype]}"]
    stream = _stream(torch.cuda.current_stream(index).cuda_stream)
    sizes = (plan.blocks,), (plan.threads,), (task,), plan.shared_bytes
    if torch.cuda.current_device() == index:
        kernel(*sizes, stream)
    else:
        with torch.cuda.device(index):
            kernel(*sizes, stream)


@functools.lru_cache(maxsize=64)
def _stream(pointer: int) -> Any:
    cuda = build.cupy().cuda
    if hasattr(cuda.Stream, "from_external"):  # since CuPy 14, which deprecates the other
        return cuda.Stream.from_external(_ExternalStream(pointer))
    return cuda.ExternalStream(pointer)


class _ExternalStream:
    """A stream of torch, by the protocol that CuPy reads.

    Args:
        pointer: Address of the `cudaStream_t`.
    """

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the version of the protocol, and the address."""
        return 0, self.pointer
