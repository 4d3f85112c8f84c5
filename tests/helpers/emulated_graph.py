"""Streams and CUDA graphs of the emulated device of `emulated_cuda`.

As on a GPU, what is captured is not computed: tensors that were changed in place get their numbers
back at the end. A replay computes the recorded operations on the same memory. While capturing,
reading a number on the host, or copying from the CPU, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

WAITING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "_unique2", "masked_select"}


class EmulatedStream:
    """A stream on which everything has already been computed."""

    cuda_stream = 0
    device_index = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def synchronize(self) -> None: ...

    def wait_stream(self, other: Any) -> None: ...


class EmulatedGraph:
    """Recorded operations: function, arguments, and the tensors that hold its results."""

    capturing: EmulatedGraph | None = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self.recorded: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def record(self, func: Any, args: Any, kwargs: Any, compute: Any) -> Any:
        """Compute an operation on CPU tensors and record it."""
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in tree_leaves(given):
                    key = tensor.untyped_storage().data_ptr() if tensor is not None else 0
                    if tensor is not None and key not in self.before:
                        whole = tensor.new_empty(0).set_(tensor.untyped_storage())
                        self.before[key] = (whole, whole.clone())
        result = compute(func, args, kwargs)
        self.recorded.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        """Give all tensors their numbers before the capture."""
        for tensor, numbers in self.before.values():
            tensor.copy_(numbers)

    def replay(self) -> None:
        """Compute the recorded operations again, into the same memory."""
        from emulated_cuda import compute_on_cpu

        for func, args, kwargs, result in self.recorded:
            again = compute_on_cpu(func, args, kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def emulated_capture(graph: EmulatedGraph, **_: Any) -> Iterator[None]:
    """Record the operations inside; replacement of `torch.cuda.graph`."""
    EmulatedGraph.capturing = graph
    try:
        yield
    finally:
        EmulatedGraph.capturing = None
        graph.undo()


def check_capture(name: str, *, transferred: bool) -> None:
    """Raise where an operation cannot be captured."""
    if EmulatedGraph.capturing is not None and (name in WAITING or transferred):
        raise RuntimeError(f"{name}: operation not permitted when stream is capturing")


class EmulatedGenerator:
    """The device's generator, as graphs use it."""

    def clone_state(self) -> Tensor:
        return torch.cuda.get_rng_state()

    def graphsafe_set_state(self, state: Tensor) -> None:
        torch.cuda.set_rng_state(state)


def install_streams() -> None:
    """Replace streams and graphs of torch.cuda."""

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        yield

    stream = EmulatedStream()
    torch.cuda.Stream = EmulatedStream  # type: ignore[assignment,misc]
    torch.cuda.CUDAGraph = EmulatedGraph  # type: ignore[assignment,misc]
    torch.cuda.graph = emulated_capture  # type: ignore[assignment,misc]
    torch.cuda.stream = on  # type: ignore[assignment]
    torch.cuda.set_stream = lambda stream: None
    torch.cuda.current_stream = lambda *_: stream  # type: ignore[assignment]
    torch.cuda.default_stream = lambda *_: stream  # type: ignore[assignment]
    torch.cuda.is_current_stream_capturing = lambda: EmulatedGraph.capturing is not None
    torch.cuda.default_generators = (EmulatedGenerator(),)  # type: ignore[assignment]
