"""Tensors that lie one after another in memory, and so are one vector to elementwise operations.

torch's operations on lists of tensors pass at most 320 blocks, of a few tensors each, to a kernel:
the 1,310 weights of `cifar10` took 143 launches with too few blocks for an H100. On a single CUDA
device the weights, their gradients and averages are laid out here, and each operation is one
launch. All else sees tensors as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

ALIGNMENT = 32
"""Each tensor begins at a multiple of this number of elements, as kernels of libraries expect."""


@torch.no_grad()
def laid_out(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors in one vector, with their shapes and strides."""
    vector = torch.cat(_with_gaps(tensors, tensors))
    return _parts(vector, tensors)


@torch.no_grad()
def lay_out_parameters(module: nn.Module) -> None:
    """Move all parameters of a module, of one dtype and device, into one vector.

    A parameter whose memory is not dense, such as an expanded one, is refused by `_dense`.
    """
    parameters = list(module.parameters())
    for parameter, own in zip(parameters, laid_out(parameters), strict=True):
        parameter.data = own


@torch.no_grad()
def lay_out_gradients(parameters: Iterable[Tensor]) -> None:
    """Copy the gradients of parameters that are one vector into another one, in few launches.

    Nothing happens if the parameters are not, or one of them has no gradient.
    """
    parameters = list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    if len(grads) < len(parameters) or not is_vector(parameters):
        return
    vector = grads[0].new_zeros(sum(_aligned(p.numel()) for p in parameters))
    # As vectors, whose strides are equal; torch.cat takes 0.8 ms on an H200 for `cifar10`.
    places = [_dense(part, part) for part in _parts(vector, parameters)]
    torch._foreach_copy_(places, list(map(_dense, grads, parameters)))
    for parameter, own in zip(parameters, _parts(vector, parameters), strict=True):
        parameter.grad = own


def is_vector(tensors: Sequence[Tensor]) -> bool:
    """Return whether tensors lie one after another, as `laid_out` places them."""
    if len(tensors) < 2:
        return False
    first = tensors[0]
    memory, place = StorageWeakRef(first.untyped_storage()), first.storage_offset()
    for tensor in tensors:
        if tensor.storage_offset() != place or tensor.dtype != first.dtype:
            return False
        if StorageWeakRef(tensor.untyped_storage()) != memory:
            return False
        place += _aligned(tensor.numel())
    return all(map(_is_dense, tensors))


def as_few(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the vector that tensors make up, with its gaps; the tensors where they do not."""
    if not is_vector(tensors):
        return list(tensors)
    first = tensors[0].detach()
    length = sum(_aligned(t.numel()) for t in tensors)
    return [first.as_strided((length,), (1,), first.storage_offset())]


def _parts(vector: Tensor, likes: Sequence[Tensor]) -> list[Tensor]:
    parts, place = [], 0
    for like in likes:
        parts.append(vector.as_strided(like.shape, like.stride(), place))
        place += _aligned(like.numel())
    return parts


def _with_gaps(tensors: Sequence[Tensor], likes: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors as vectors in the memory order of `likes`, with zeros between them."""
    zeros = tensors[0].new_zeros(ALIGNMENT)
    pieces = []
    for tensor, like in zip(tensors, likes, strict=True):
        pieces.append(_dense(tensor, like))
        gap = _aligned(like.numel()) - like.numel()
        if gap:
            pieces.append(zeros[:gap])
    return pieces


def _dense(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor as a vector in the memory order of `like`."""
    if not _is_dense(like):
        raise ValueError(
            "tensors of one vector must be dense in memory, got shape "
            f"{tuple(like.shape)} with strides {like.stride()}"
        )
    tensor = tensor.detach()
    # Axes of length 1 may have any stride: those of 1x1 kernels and of cuDNN's gradients differ.
    axes = zip(like.shape, like.stride(), tensor.stride(), strict=True)
    if not all(length == 1 or own == other for length, own, other in axes):
        tensor = torch.empty_strided(
            like.shape, like.stride(), dtype=tensor.dtype, device=tensor.device
        ).copy_(tensor)
    return tensor.as_strided((like.numel(),), (1,), tensor.storage_offset())


def _is_dense(tensor: Tensor) -> bool:
    """Return whether the numbers of a tensor fill its memory, in any order of the axes."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return tensor.numel() > 0


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
