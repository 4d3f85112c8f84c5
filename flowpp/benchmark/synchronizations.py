"""Host synchronizations: operations for which the host would wait for a CUDA device.

They are recognized by what they are, so that they can be counted on a machine without a CUDA
device: every tensor is treated as if it were on one. On a CUDA device itself,
`torch.cuda.set_sync_debug_mode` reports those of torch.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE = Path(__file__).parents[1]
READING = frozenset(
    {
        "_local_scalar_dense",  # item, bool, float, int
        "is_nonzero",
        "equal",
        "allclose",
        "nonzero",
        "masked_select",
        "unique_consecutive",
        "unique_dim",
        "_unique",
        "_unique2",
        "_linalg_check_errors",
        "_assert_scalar",
        "bincount",
        "repeat_interleave",  # without output_size
    }
)
"""ATen operations that read values on the host, for a result or its shape."""
TRANSFERS = frozenset({"_to_copy", "copy_"})
METHODS = frozenset({"tolist", "numpy", "cpu", "__array__"})
"""Methods of a tensor that read it; on the CPU they call no ATen operation."""
FROM_NUMBERS = frozenset({torch.tensor, torch.as_tensor, torch.asarray})
"""Functions that copy numbers to a device from memory that is not page-locked."""


@contextmanager
def count_host_synchronizations() -> Iterator[Counter[str]]:
    """Count operations that would wait for a CUDA device, inside the block.

    Yields:
        Number of them by operation and line of flowpp, such as `item at training/loop.py:200`. The
        counter's `total()` is the number of all.
    """
    found: Counter[str] = Counter()
    with _Functions(found), _Operations(found):
        yield found


class _Operations(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in READING or _has_mask(name, args) or _is_transfer(name, args, kwargs):
            self.found[f"{name} at {_line()}"] += 1
        return function(*args, **kwargs)


class _Functions(TorchFunctionMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        copies = function in FROM_NUMBERS and kwargs.get("device") is not None
        if copies or (name in METHODS and args and isinstance(args[0], Tensor)):
            self.found[f"{name} at {_line()}"] += 1
        return function(*args, **kwargs)


def _has_mask(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether an operation is indexed by a boolean mask, whose size must be read."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    return any(
        isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )


def _is_transfer(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether tensors are copied between devices and the host waits for the copy."""
    if name not in TRANSFERS:
        return False
    if name == "copy_":
        target, source, waits = args[0].device, args[1].device, not (args + (False,))[2]
    else:
        source = args[0].device
        target = kwargs.get("device") or source
        waits = not kwargs.get("non_blocking", False)
    return waits and torch.device(target).type != source.type


def _line() -> str:
    """Return the innermost line of this package, other than of this file."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE) and path != Path(__file__):
            return f"{path.relative_to(PACKAGE)}:{frame.lineno}"
    return "backward or caller"
