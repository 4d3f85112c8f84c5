"""A CUDA device emulated on the CPU: the device's rules with the CPU's numbers.

`install()` makes torch believe in one CUDA device, `cuda:0`. Its tensors are wrappers of CPU
tensors, and every operation on them is computed by the CPU. As on a GPU, an error is raised if an
operation mixes tensors of both devices or draws from a generator of the other device, and if a
tensor is read as a NumPy array. The device has a random state of its own, and its CUDA graphs
record and replay operations (`emulated_graph`). Kernels, speed and memory are not emulated.

Install it at the start of a process, before anything is differentiated: autograd counts the
devices once. It cannot be removed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # reads the functions that are replaced here
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from emulated_graph import EmulatedGraph, check_capture, install_streams
from flowpp.kernels.cuda import launch

SOURCE = Path(__file__).with_suffix(".cpp")
DEVICE = torch.device("cuda", 0)
MEMORY = 80 << 30
"""Bytes of memory that the device claims to have."""
TRANSFERS = {"_to_copy", "copy_", "_foreach_copy_", "_copy_from"}
CPU_INDICES = {"index", "index_put_", "index_put", "_unsafe_index", "_index_put_impl_"}
"""Operations on CUDA tensors that take indices on the CPU."""

_state: dict[str, Tensor] = {}


class DeviceTensor(Tensor):
    """A tensor of the emulated device; `inner` holds its numbers, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self, **_: Any) -> str:
        return f"{self.inner!r} on {DEVICE}"

    @property
    def data(self) -> Tensor:
        return DeviceTensor(self.inner)

    @data.setter
    def data(self, other: DeviceTensor) -> None:
        Tensor.data.__set__(self, other)
        self.inner = other.inner

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": self.device, **options})

    def record_stream(self, stream: Any) -> None: ...

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.detach().cpu().numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class EmulatedCuda(TorchDispatchMode):
    """Inside, operations on `cuda:0` are computed on the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    leaves = tree_leaves((args, kwargs))
    tensors = [t for t in leaves if isinstance(t, Tensor)]
    named = next((d for d in leaves if isinstance(d, torch.device)), None)
    on_device = any(isinstance(t, DeviceTensor) for t in tensors)
    target = on_device if named is None else named.type == "cuda"
    if named is not None and named.type == "cuda" and named.index not in (None, 0):
        raise RuntimeError(f"CUDA error: invalid device ordinal, got {named}")
    if on_device and name == "_fused_sdp_choice":
        return 0  # plain products: the others differ between the devices
    if name in ("_pin_memory", "pin_memory"):
        return args[0].clone()
    _check_devices(func, name, tensors)
    for generator in leaves:
        if isinstance(generator, torch.Generator) and generator.device.type != (
            "cuda" if target else "cpu"
        ):
            raise RuntimeError(
                f"{func}: Expected a {'cuda' if target else 'cpu'!r} device type for generator "
                f"but found {generator.device.type!r}"
            )
    inner_args, inner_kwargs = tree_map_only(DeviceTensor, lambda t: t.inner, (args, kwargs))
    if target and named is not None:
        cpu = torch.device("cpu")
        inner_args, inner_kwargs = tree_map_only(
            torch.device, lambda _: cpu, (inner_args, inner_kwargs)
        )
    places = {isinstance(t, DeviceTensor) for t in tensors}
    transferred = name in TRANSFERS and places in ({True, False}, {not target})
    if on_device or transferred:
        check_capture(name, transferred=transferred)
    graph = EmulatedGraph.capturing
    if graph is not None and target:
        result = graph.record(func, inner_args, inner_kwargs, compute_on_cpu)
    elif target:
        result = compute_on_cpu(func, inner_args, inner_kwargs)
    else:
        result = func(*inner_args, **inner_kwargs)
    if name == "_to_copy" and named is not None and target != on_device:
        # A transfer is a copy, also where the CPU would return its argument.
        result = result.clone() if result is inner_args[0] else result
    if not target:
        return result
    wrapped = tree_map_only(Tensor, DeviceTensor, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def compute_on_cpu(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation of the device on CPU tensors, with the device's random state."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        with _DeviceRandomness():
            return func(*args, **kwargs)
    return func(*args, **kwargs)


def _check_devices(func: Any, name: str, tensors: list[Tensor]) -> None:
    """Raise where tensors of both devices meet, except scalars of elementwise operations."""
    if name in TRANSFERS or not any(isinstance(t, DeviceTensor) for t in tensors):
        return
    scalars_allowed = torch.Tag.pointwise in func.tags and not name.startswith("_foreach")
    for number, tensor in enumerate(tensors):
        if isinstance(tensor, DeviceTensor) or (scalars_allowed and tensor.ndim == 0):
            continue
        if name in CPU_INDICES and number > 0 and not tensor.is_floating_point():
            continue
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found at least two "
            f"devices, cuda:0 and cpu (argument {number} of shape {tuple(tensor.shape)})"
        )


class _DeviceRandomness:
    """Inside, the CPU's random state is that of the emulated device."""

    def __enter__(self) -> None:
        self.before = torch.default_generator.get_state()
        torch.default_generator.set_state(_state["random"])

    def __exit__(self, *_: object) -> None:
        _state["random"] = torch.default_generator.get_state()
        torch.default_generator.set_state(self.before)


def _seed(seed: int) -> None:
    _state["random"] = torch.Generator().manual_seed(seed).get_state()


def _set_random_state(state: Tensor, device: Any = None) -> None:
    _state["random"] = state.clone()


def install() -> None:
    """Add the device to this process.

    Raises:
        RuntimeError: There is a real one, or no C++ compiler.
    """
    if torch.cuda.is_available():
        raise RuntimeError("a real CUDA device is here: nothing is emulated")
    ctypes.CDLL(str(_build())).install()
    _replace_functions()
    _seed(0)
    EmulatedCuda().__enter__()
    # Modes belong to threads; a thread of its own copies or loads for the device, too.
    run = threading.Thread.run

    def run_with_device(thread: threading.Thread) -> None:
        with EmulatedCuda():
            run(thread)

    threading.Thread.run = run_with_device  # type: ignore[method-assign]


def _build() -> Path:
    """Compile `emulated_cuda.cpp` against torch's headers; return the library."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("needs a C++ compiler (g++, clang++ or $CXX), got none")
    root = Path(torch.__file__).parent
    library = Path(tempfile.mkdtemp()) / "emulated_cuda.so"
    command = [
        compiler, "-O1", "-std=c++20", "-shared", "-fPIC", "-w",
        f"-I{root / 'include'}", str(SOURCE), "-o", str(library),
        f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cannot build {SOURCE.name}: {done.stderr}")
    return library


def _moved(function: Any) -> Any:
    """Return torch.tensor or as_tensor such that the move to a device is an operation."""

    def build(
        data: Any, *, device: Any = None, requires_grad: bool = False, **options: Any
    ) -> Any:
        if device is None or torch.device(device).type != "cuda":
            return function(data, device=device, **_given(requires_grad), **options)
        if isinstance(data, Tensor):
            return data.to(device, options.get("dtype"))
        return function(data, **options).to(device).requires_grad_(requires_grad)

    return build


def _given(requires_grad: bool) -> dict[str, bool]:  # noqa: FBT001
    return {"requires_grad": True} if requires_grad else {}


def _replace_functions() -> None:
    """Replace the functions of torch.cuda that ask the driver."""
    nothing = lambda *args, **kwargs: None  # noqa: E731
    properties = SimpleNamespace(
        name="emulated", total_memory=MEMORY, multi_processor_count=132, major=9, minor=0
    )
    constants = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": properties.name,
        "get_device_capability": (9, 0),
        "get_device_properties": properties,
        "mem_get_info": (MEMORY, MEMORY),
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "memory_reserved": 0,
    }
    for name, value in constants.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    for name in ("_lazy_init", "init", "set_device", "synchronize", "empty_cache",
                 "reset_peak_memory_stats"):  # fmt: skip
        setattr(torch.cuda, name, nothing)
    install_streams()
    # The operators of the CUDA kernels are then chosen, and computed by the CPU kernels.
    launch.is_available = lambda device=None: True
    torch.tensor, torch.as_tensor = _moved(torch.tensor), _moved(torch.as_tensor)
    torch.cuda.get_rng_state = lambda device=None: _state["random"].clone()  # type: ignore
    torch.cuda.set_rng_state = _set_random_state  # type: ignore[assignment]
    torch.cuda.manual_seed = torch.cuda.manual_seed_all = _seed  # type: ignore[assignment]
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    # Modules then get new parameters when they are moved, instead of new memory for the old ones.
    torch._has_compatible_shallow_copy_type = lambda a, b: False  # type: ignore[assignment]
    torch.utils._foreach_utils._foreach_supported_types.append(DeviceTensor)
