"""Groups of operations that Inductor, the compiler of torch.compile, fuses into kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn


def fused_groups(block: nn.Module, *arguments: Tensor | None) -> list[tuple[str | None, int]]:
    """Lower the forward and backward pass of a block by Inductor, without compiling its code.

    Args:
        block: Module with a tensor as its result.
        arguments: Arguments of its call.

    Returns:
        For each kernel of Inductor and each operation that it calls: the operation's name, None
        for a kernel, and the bytes that it reads and writes.
    """
    # Inductor takes seconds to import.
    from torch._functorch import config as functorch_config
    from torch._inductor import config as inductor_config
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    groups: list[tuple[str | None, int]] = []
    lower = GraphLowering.compile_to_module

    def compile_to_module(graph: Any) -> Any:
        module = lower(graph)
        with V.set_graph_handler(graph):
            groups.extend(_group(node) for node in graph.scheduler.nodes if _has_kernel(node))
        return module

    def no_code(*_: Any) -> Callable[..., None]:
        return lambda *_: None

    with (
        mock.patch.object(GraphLowering, "compile_to_module", compile_to_module),
        mock.patch.object(AsyncCompile, "cpp_pybinding", no_code),
        inductor_config.patch(fx_graph_cache=False),
        functorch_config.patch(enable_autograd_cache=False),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(block, backend=_backend, fullgraph=True, dynamic=False)
        y = compiled(*arguments)
        y.backward(torch.zeros_like(y))
    return groups


def _backend(graph: Any, inputs: Any) -> Any:
    """Compile by Inductor, except that the compiled functions return uninitialized tensors."""
    from torch._inductor import compile_fx

    def compile_inner(graph: Any, inputs: Any, **options: Any) -> Any:
        results = [n if n is None else n.meta["val"] for n in graph.graph.output_node().args[0]]
        compile_fx.compile_fx_inner(graph, inputs, **options)

        def run(arguments: list[Any]) -> list[Any]:
            arguments.clear()
            return [_uninitialized(r) if isinstance(r, Tensor) else r for r in results]

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    return compile_fx.compile_fx(graph, inputs, inner_compile=compile_inner)


def _uninitialized(like: Tensor) -> Tensor:
    return torch.empty_strided(like.size(), like.stride(), dtype=like.dtype, device=like.device)


def _has_kernel(node: Any) -> bool:
    from torch._inductor.ir import MultiOutput
    from torch._inductor.scheduler import NopKernelSchedulerNode

    is_part = isinstance(node.node, MultiOutput)  # of another operation's result
    return not is_part and not isinstance(node, NopKernelSchedulerNode)


def _group(node: Any) -> tuple[str | None, int]:
    operation = getattr(node.node, "op_overload", None)
    name = None if operation is None else operation.overloadpacket.__name__
    return name, node.get_read_write_buffers_sizes()
