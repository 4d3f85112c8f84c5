"""Adapter of flowpp, and conversion between the objects of both trees.

The twin of a reference class has the same name, the same fields and the same path of modules:
`reference.bijectors.act_norm.ActNorm` and `flowpp.bijectors.act_norm.ActNorm`. There is no
registry, so a bijector added to both trees is found.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from conformance.adapter import Dtype, NotSupported
from conformance.numerics.specs import float_arrays, is_object
from flowpp.kernels.backend import Kernel, backend_for
from flowpp.runtime.precision import Float32, float32_precision
from flowpp.training.initialization import initialize
from reference.bijectors import MixtureLogistic

TORCH_DTYPES = {"float64": torch.float64, "float32": torch.float32}


def from_reference(spec: Any, dtype: Dtype = "float64", device: str = "cpu") -> Any:
    """Convert a reference object or function to its flowpp twin, in evaluation mode.

    Args:
        spec: Reference object. Real arrays become tensors of `dtype`, integer arrays integer
            tensors, and tuples tuples of twins; numbers, strings and None are kept.
        dtype: "float64" or "float32".
        device: Device of the tensors.

    Raises:
        NotSupported: flowpp has no twin of that name.
        TypeError: A field has a type without a counterpart.
    """
    twin = _tensors(spec, TORCH_DTYPES[dtype], device)
    return twin.eval() if isinstance(twin, nn.Module) else twin


def to_reference(module: Any) -> Any:
    """Convert a flowpp object to its reference twin, with its fields as float64 arrays.

    Raises:
        TypeError: The reference has no class of that name, a field is missing, or its value has a
            type without a counterpart.
    """
    if isinstance(module, Tensor):
        array = module.detach().cpu()
        return (array.double() if array.is_floating_point() else array).numpy().copy()
    if isinstance(module, (tuple, list, nn.ModuleList)):
        return tuple(to_reference(item) for item in module)
    if module is None or isinstance(module, (bool, int, float, str)):
        return module
    try:
        twin = _twin(type(module), "reference")
    except NotSupported as error:
        raise TypeError(f"to_reference cannot convert a {type(module).__name__}") from error
    values = {}
    for field in dataclasses.fields(twin):
        if not hasattr(module, field.name):
            raise TypeError(f"flowpp's {twin.__name__} has no field {field.name}")
        values[field.name] = to_reference(getattr(module, field.name))
    return twin(**values)


class FlowppAdapter:
    """Adapter of flowpp; see `conformance.adapter`."""

    float32: Float32 = "ieee"
    """Meaning of float32 on CUDA devices; a subclass may set "tf32"."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise NotSupported(f"no CUDA device for {device}")
        self.dtype, self.device = dtype, device

    def prepare(self) -> None:
        """Compile the kernels, which takes about a minute if they are not cached."""
        x = np.zeros((1, 1, 1, 1), self.dtype)
        # CUDA kernels are compiled when they are launched, CPU kernels when they are chosen.
        self.build(MixtureLogistic(*np.zeros((3, *x.shape, 1)))).forward(x)
        for kernel in get_args(Kernel):
            backend_for(torch.as_tensor(x, device=self.device), kernel=kernel)

    def build(self, spec: Any) -> Any:
        return NumpyModule(
            from_reference(spec, self.dtype, self.device),
            TORCH_DTYPES[self.dtype],
            self.device,
            self.float32,
        )


class NumpyModule:
    """Wrapper of a flowpp object whose methods take and return NumPy arrays."""

    def __init__(
        self, twin: Any, dtype: torch.dtype, device: str, float32: Float32 = "ieee"
    ) -> None:
        self._twin, self._dtype, self._device, self._float32 = twin, dtype, device, float32

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._twin, name)
        return self._with_arrays(attribute) if callable(attribute) else _arrays(attribute)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._with_arrays(self._twin)(*args, **options)

    def vjp(
        self,
        x: np.ndarray,
        context: np.ndarray | None,
        grad_y: np.ndarray,
        grad_log_det: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Return the gradient of sum(grad_y * y) + sum(grad_log_det * log_det), by autograd."""
        return self._vjp("forward", x, context, grad_y, grad_log_det)

    def vjp_inverse(
        self,
        y: np.ndarray,
        context: np.ndarray | None,
        grad_x: np.ndarray,
        grad_log_det: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Return the gradient through the inverse; "x" is the gradient by the inverse's input."""
        return self._vjp("inverse", y, context, grad_x, grad_log_det)

    def context_gradient(
        self, x: np.ndarray, noise: np.ndarray, context: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Return the gradient of sum(weights * total bound) for the context, by autograd."""
        with float32_precision(self._float32):
            leaf = self._in(context).requires_grad_()
            bound = self._twin.elbo(self._in(x), self._in(noise), leaf).total
            (gradient,) = torch.autograd.grad((bound * self._in(weights)).sum(), leaf)
        return _arrays(gradient)

    def bound_gradient(
        self, x: np.ndarray, noise: np.ndarray, context: np.ndarray | None, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the gradients of sum(weights * total bound) for all fields, by autograd."""
        given = [self._in(x), self._in(noise)] + ([] if context is None else [self._in(context)])
        with float32_precision(self._float32), _requiring_gradients(self._twin) as tensors:
            bound = self._twin.elbo(*given).total
            return _gradients((bound * self._in(weights)).sum(), tensors)

    def initialize(self, *inputs: np.ndarray) -> tuple[NumpyModule, Any]:
        """Initialize a copy from a batch; return it and its output for the batch."""
        initialized = copy.deepcopy(self._twin)
        with float32_precision(self._float32):
            output = initialize(initialized, *(self._in(array) for array in inputs))
        module = NumpyModule(initialized, self._dtype, self._device, self._float32)
        return module, _arrays(output)

    def assign(self, spec: Any) -> None:
        """Copy the real arrays of another specification of the same shapes into the tensors.

        Like a step of an optimizer, this changes every tensor in place.
        """
        arrays = float_arrays(spec)
        with torch.no_grad():
            for path, tensor in _tensor_fields(self._twin).items():
                tensor.copy_(torch.tensor(arrays[path]))

    def _vjp(self, *args: Any) -> dict[str, np.ndarray]:
        with float32_precision(self._float32):
            return self._gradients(*args)

    def _gradients(
        self,
        direction: str,
        x: np.ndarray,
        context: np.ndarray | None,
        grad_output: np.ndarray,
        grad_log_det: np.ndarray,
    ) -> dict[str, np.ndarray]:
        inputs = {"x": self._in(x)} | ({} if context is None else {"context": self._in(context)})
        with _requiring_gradients(self._twin) as tensors:
            for tensor in inputs.values():
                tensor.requires_grad_()
            output, log_det = getattr(self._twin, direction)(inputs["x"], inputs.get("context"))
            loss = (output * self._in(grad_output)).sum()
            loss = loss + (log_det * self._in(grad_log_det)).sum()
            return _gradients(loss, inputs | tensors)

    def _with_arrays(self, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            with torch.no_grad(), float32_precision(self._float32):
                return _arrays(
                    function(
                        *(self._in(a) for a in args),
                        **{name: self._in(value) for name, value in options.items()},
                    )
                )

        return call

    def _in(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        real = np.issubdtype(value.dtype, np.floating)
        # Memory is shared if possible, so that a law detects code that modifies its input.
        if not value.flags.writeable or min(value.strides, default=0) < 0:
            value = value.copy()  # torch shares neither read-only memory nor negative strides
        tensor = torch.as_tensor(value, device=self._device)
        return tensor.to(self._dtype) if real else tensor


@contextmanager
def _requiring_gradients(twin: Any) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors of an object by path, which require gradients in this block."""
    tensors = _tensor_fields(twin)
    required = {path: tensor.requires_grad for path, tensor in tensors.items()}
    try:
        for tensor in tensors.values():
            tensor.requires_grad_()
        yield tensors
    finally:
        for path, tensor in tensors.items():
            tensor.requires_grad_(required[path])


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the gradients of a number, zeros for those that it does not depend on."""
    gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        path: _arrays(torch.zeros_like(leaf) if gradient is None else gradient)
        for (path, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def _twin(kind: type | FunctionType, tree: str) -> Any:
    module_name = ".".join([tree, *kind.__module__.split(".")[1:]])
    try:
        return getattr(importlib.import_module(module_name), kind.__qualname__)
    except (ModuleNotFoundError, AttributeError) as error:
        raise NotSupported(f"{tree} has no {kind.__qualname__} in {module_name}") from error


def _tensors(value: Any, dtype: torch.dtype, device: str) -> Any:
    """Convert a value of the reference to flowpp, field by field."""
    if isinstance(value, np.ndarray):
        real = np.issubdtype(value.dtype, np.floating)
        return torch.tensor(value, dtype=dtype if real else None, device=device)
    if isinstance(value, (tuple, list)):
        return tuple(_tensors(item, dtype, device) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, FunctionType):
        return _twin(value, "flowpp")
    if is_object(value):
        fields = {
            f.name: _tensors(getattr(value, f.name), dtype, device)
            for f in dataclasses.fields(value)
        }
        return _twin(type(value), "flowpp")(**fields)
    raise TypeError(f"from_reference cannot convert a {type(value).__name__}")


def _tensor_fields(twin: Any, path: str = "") -> dict[str, Tensor]:
    """Return the real tensors of a flowpp object, by the reference's field paths."""
    if isinstance(twin, Tensor):
        return {path: twin} if twin.is_floating_point() else {}
    if isinstance(twin, (tuple, list, nn.ModuleList)):
        items = [(str(i), item) for i, item in enumerate(twin)]
    elif twin is None or isinstance(twin, (bool, int, float, str)):
        return {}
    else:
        fields = dataclasses.fields(_twin(type(twin), "reference"))
        items = [(f.name, getattr(twin, f.name)) for f in fields]
    return {
        found: tensor
        for name, item in items
        for found, tensor in _tensor_fields(item, f"{path}.{name}" if path else name).items()
    }


def _arrays(value: Any) -> Any:
    """Convert tensors to arrays, including those in tuples and in fields of dataclasses."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, (tuple, list)):
        return tuple(_arrays(item) for item in value)
    if is_object(value):
        return dataclasses.replace(
            value, **{f.name: _arrays(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    return value
