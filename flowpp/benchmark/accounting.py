"""Kernels and memory traffic of a training step on a GPU, counted on a machine without one.

The step is computed on fake tensors, which have shapes and no numbers. Outside the blocks of the
networks each of torch's operations counts as the kernels that it launches and moves its arguments
and results. For the blocks, torch.compile's Inductor is stopped before it compiles the code, and
its fused groups of operations are counted in the same way.

What is approximate: blocks are counted in the form of their layers, and CUDA devices compute them
in that of `flowpp.conditioner.block_by_strips`, which has fewer kernels and bytes. Inductor fuses
as for the CPU, which splits some groups that it would keep together on CUDA devices, and computes
sums over a batch in one kernel where CUDA's takes two. An operation of a library counts as the
kernels of `KERNELS` or as one, and as moving its arguments and results once. Attention has the
memory layout of CUDA's FlashAttention.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import custom_op
from torch.nn import functional
from torch.nn.utils import clip_grad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowpp import augmentation, dequantization
from flowpp.benchmark.inductor import fused_groups
from flowpp.bijectors import invertible_conv
from flowpp.conditioner import Conditioner, conditioner
from flowpp.conditioner.conv2d import use_channels_last
from flowpp.config import Config
from flowpp.config.build import build_model, set_compute
from flowpp.config.settings import Precision
from flowpp.model import FlowPlusPlus
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.optimizer import make_optimizer
from flowpp.training.state import TrainingState
from flowpp.training.step import TrainingStep

NO_KERNEL = frozenset(
    {"empty", "empty_like", "empty_strided", "new_empty", "detach", "_unsafe_view"}
)
"""Operations without a kernel, besides views."""
KERNELS = {
    "convolution": 2,  # and its bias
    "convolution_backward": 3,  # by input, kernel and bias
    "native_layer_norm_backward": 2,
    "counted_attention_backward": 3,
}
"""Numbers of kernels of single operations on CUDA devices; the others have one."""
FUSED_INTO_ITS_USER = {"convolution": 1}
"""Numbers of kernels that differ in Inductor's code: it adds a bias where the sum is used."""
LISTS = ("_foreach_", "_fused_")
CHUNK, MAX_BLOCKS = 65536, 320
MAX_TENSORS = (110, 64, 48, 36, 30)
"""Limits of one launch of an operation on lists of tensors: elements of a block, blocks, and
tensors for 1, 2, ... lists; from torch's MultiTensorApply.cuh."""


@dataclass(frozen=True)
class Cost:
    """Operations of torch, kernels, and bytes read and written."""

    operations: int = 0
    kernels: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.operations + other.operations,
            self.kernels + other.kernels,
            self.bytes + other.bytes,
        )

    def __mul__(self, count: int) -> Cost:
        return Cost(self.operations * count, self.kernels * count, self.bytes * count)


@dataclass(frozen=True)
class Kind:
    """Blocks that share a compiled graph: their structure and the shapes of their arguments."""

    structure: str
    x: tuple[int, ...]
    context: tuple[int, ...] | None
    position: tuple[int, ...] | None


@dataclass(frozen=True)
class StepCost:
    """Cost of a step: of its blocks by kind, with their numbers, and of everything else."""

    blocks: dict[Kind, tuple[int, Cost]]
    rest: Cost

    @property
    def total(self) -> Cost:
        """Cost of the whole step."""
        return sum((cost * count for count, cost in self.blocks.values()), self.rest)


def step_cost(
    config: Config,
    image_shape: tuple[int, int, int],
    levels: int,
    *,
    batch_size: int = 64,
    precision: Precision = "bfloat16",
    compiled: bool = True,
) -> StepCost:
    """Count the cost of a training step on a CUDA device.

    Args:
        config: Settings of model and training.
        image_shape: (channels, height, width).
        levels: Number of values of a channel.
        batch_size: Number of images.
        precision: See `TrainingConfig.precision`.
        compiled: Whether torch.compile computes the networks' blocks.
    """
    real = build_model(config.model, image_shape, levels)
    with _as_on_cuda(), FakeTensorMode():
        model = build_model(config.model, image_shape, levels).train()
        set_compute(model, memory=config.training.memory, precision=precision)
        use_channels_last(model)
        stand_ins = _replace_blocks(model, real) if compiled else []
        step = _step(model, config)
        x, noise = torch.zeros(2, batch_size, *image_shape).unbind()
        step(x, noise)  # makes the optimizer's averages
        for stand_in in stand_ins:
            stand_in.calls.clear()
        step.advance()
        with CostCounter() as counter:
            step.compute(x, noise)
    calls = Counter(kind for stand_in in stand_ins for kind in stand_in.calls)
    blocks = {kind: stand_in.block for stand_in in stand_ins for kind in stand_in.calls}
    costs = {
        kind: (count, compiled_block_cost(blocks[kind], kind, precision))
        for kind, count in calls.items()
    }
    return StepCost(costs, counter.cost)


class CostCounter(TorchDispatchMode):
    """Counts the cost of all operations inside the block, as if on a CUDA device."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        counted = function.namespace != "prim" and name not in NO_KERNEL
        if counted and not function.is_view:
            moved = _size((args, kwargs)) + _size(result)
            self.cost += Cost(1, _launches(name, args), moved)
        return result


def _launches(name: str, args: tuple[Any, ...]) -> int:
    lists = [a for a in args if isinstance(a, (list, tuple)) and a and isinstance(a[0], Tensor)]
    if name.startswith(LISTS) and lists:
        return list_launches([t.numel() for t in lists[0]], len(lists))
    return KERNELS.get(name, 1)


def list_launches(sizes: list[int], lists: int) -> int:
    """Return the number of launches of one operation on lists of tensors of these sizes."""
    max_tensors = MAX_TENSORS[min(lists, len(MAX_TENSORS)) - 1]
    launches = tensors = blocks = 0
    for size in sizes:
        tensors += 1
        for chunk in range(chunks := math.ceil(size / CHUNK)):
            blocks += 1
            last = chunk == chunks - 1
            if blocks == MAX_BLOCKS or (last and tensors == max_tensors):
                launches, blocks = launches + 1, 0
                tensors = 0 if last else 1
    return launches + (blocks > 0)


def _size(tree: Any) -> int:
    """Return the bytes of all tensors; an expanded one is read once."""
    return sum(
        math.prod(n for n, stride in zip(t.shape, t.stride(), strict=True) if stride)
        * t.element_size()
        for t in {id(t): t for t in tree_leaves(tree) if isinstance(t, Tensor)}.values()
    )


def compiled_block_cost(block: nn.Module, kind: Kind, precision: Precision) -> Cost:
    """Count what Inductor makes of a block's forward and backward pass."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def argument(shape: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor | None:
        if shape is None:
            return None
        t = torch.zeros(shape, dtype=dtype)
        last = torch.channels_last if t.ndim == 4 else torch.contiguous_format
        return t.contiguous(memory_format=last).requires_grad_()

    use_channels_last(block.train())
    arguments = (
        argument(kind.x, dtype),
        argument(kind.context, dtype),
        argument(kind.position, torch.float32),
    )
    with _as_on_cuda():
        groups = fused_groups(block.to(dtype), *arguments)
    return sum((_group_cost(name, moved) for name, moved in groups), Cost())


def _group_cost(name: str | None, moved: int) -> Cost:
    """Return the cost of a group of operations that Inductor has fused."""
    kernels = 1 if name is None else (KERNELS | FUSED_INTO_ITS_USER).get(name, 1)
    return Cost(1, kernels, moved)


@custom_op("flowpp::counted_attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    raise NotImplementedError  # only its shapes are used


@_attention.register_fake
def _(query, key, value):
    # As FlashAttention's: (batch, positions, heads, d) in memory.
    return _positions_first(query), query.new_empty(query.shape[:-1], dtype=torch.float32)


@custom_op("flowpp::counted_attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, merged: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    raise NotImplementedError


@_attention_backward.register_fake
def _(grad, query, key, value, merged, sums):
    return _positions_first(query), _positions_first(key), _positions_first(value)


def _positions_first(like: Tensor) -> Tensor:
    batch, heads, positions, depth = like.shape
    return like.new_empty(batch, positions, heads, depth).transpose(1, 2)


def _keep_for_backward(
    ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]
) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.set_materialize_grads(False)


_attention.register_autograd(
    lambda ctx, grad, _: _attention_backward(grad, *ctx.saved_tensors),
    setup_context=_keep_for_backward,
)


class _StandIn(nn.Module):
    """A block without cost that records its calls."""

    def __init__(self, block: nn.Module, real: nn.Module) -> None:
        super().__init__()
        self.own = block
        self.real = [real]  # not a submodule
        self.calls: list[Kind] = []

    @property
    def block(self) -> nn.Module:
        return self.real[0]

    def forward(self, x: Tensor, context: Tensor | None, position: Tensor | None) -> Tensor:
        shapes = (None if t is None else tuple(t.shape) for t in (context, position))
        self.calls.append(Kind(repr(self.own), tuple(x.shape), *shapes))
        return cast(Tensor, _Free.apply(x, context, position, *self.own.parameters()))


class _Free(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor | None) -> Tensor:
        ctx.likes = inputs
        return torch.empty_like(cast(Tensor, inputs[0]))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return tuple(None if t is None else torch.empty_like(t) for t in ctx.likes)


def _replace_blocks(model: nn.Module, real: nn.Module) -> list[_StandIn]:
    modules = dict(real.named_modules())
    stand_ins = []
    for name, network in list(model.named_modules()):
        if isinstance(network, Conditioner):
            for index, block in enumerate(network.blocks):
                stand_in = _StandIn(block, modules[f"{name}.blocks.{index}"])
                network.blocks[index] = stand_in
                stand_ins.append(stand_in)
    return stand_ins


def _step(model: FlowPlusPlus, config: Config) -> TrainingStep:
    generator = torch.Generator()
    state = TrainingState(
        model,
        EMA(model, config.training.ema_decay),
        make_optimizer(model, config.training),
        ShuffledBatches(1, 1, generator),
        generator,
        torch.device("cpu"),
    )
    step = TrainingStep(model, state, config.training, SINGLE_PROCESS)
    step.skips_on_device = True
    return step


@contextmanager
def _as_on_cuda() -> Iterator[None]:
    """Choose memory layouts and checks as on a CUDA device."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(conditioner, "CHANNELS_LAST", ("cpu",)))
        for module in (augmentation, dequantization, invertible_conv):
            unread = mock.patch.object(module, "may_read_values", lambda *_: False)
            stack.enter_context(unread)
        together = mock.patch.object(clip_grad, "_has_foreach_support", lambda *_: True)
        stack.enter_context(together)
        attention = mock.patch.object(
            functional, "scaled_dot_product_attention", lambda *qkv: _attention(*qkv)[0]
        )
        stack.enter_context(attention)
        yield
