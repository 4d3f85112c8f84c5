"""Base of adapters of torch libraries: conversion of arrays, and gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformance.adapters.spec_view import (
    Function,
    LibraryAdapter,
    Pair,
    SpecView,
    has_network,
    leaves,
    parameters,
)

from ..adapter import Dtype, NotSupported

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class TorchLibraryAdapter(LibraryAdapter):
    """Adapter of a torch library; a subclass adds a method for each map."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise NotSupported(f"no CUDA device for {device}")
        self.dtype, self.device = DTYPES[dtype], device

    def build(self, spec: Any) -> Any:
        """Build the library's map; it has gradients unless it contains a coupling's network."""
        self.make(SpecView(spec, self.tensors(spec)))  # raises NotSupported
        return NumpyMap(self, spec) if has_network(spec) else DifferentiableMap(self, spec)

    def tensors(self, spec: Any) -> dict[str, Tensor]:
        """Return the specification's arrays as new leaves."""
        return {path: self.tensor(array) for path, array in leaves(spec).items()}

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def raw(self, coupling: SpecView, a: Tensor, context: Tensor | None) -> Tensor:
        """Compute the network's parameters `(B, C/2, H, W, P)` from the conditioning half."""
        given = None if context is None else _array(context)
        return self.tensor(parameters(coupling, _array(a), given))


class NumpyMap:
    """Map of a library, with NumPy arrays as inputs and outputs."""

    def __init__(self, adapter: TorchLibraryAdapter, spec: Any) -> None:
        self._adapter, self._spec = adapter, spec
        self._functions = adapter.make(SpecView(spec, adapter.tensors(spec)))

    def forward(self, x: np.ndarray, context: np.ndarray | None = None) -> Any:
        return self._call(self._functions[0], x, context)

    def inverse(self, y: np.ndarray, context: np.ndarray | None = None) -> Any:
        return self._call(self._functions[1], y, context)

    def _call(self, function: Callable, x: np.ndarray, context: np.ndarray | None) -> Any:
        # Memory is shared if possible, so that a law detects a library that modifies its input.
        # torch shares neither read-only memory nor negative strides.
        shared = x if x.flags.writeable and min(x.strides, default=0) >= 0 else x.copy()
        given = None if context is None else self._adapter.tensor(context)
        try:
            with torch.no_grad():
                output, log_det = function(
                    torch.as_tensor(shared, device=self._adapter.device), given
                )
        except (RuntimeError, ValueError, IndexError) as error:
            if len(x):
                raise
            reason = f"{self._adapter.library} accepts no empty batch: {error}"
            raise NotSupported(reason) from error
        return output.detach().cpu().numpy(), log_det.detach().cpu().numpy()


class DifferentiableMap(NumpyMap):
    """Map with the gradient of sum(grad_y * y) + sum(grad_log_det * log_det)."""

    def vjp(
        self, x: np.ndarray, context: Any, grad_y: np.ndarray, grad_log_det: np.ndarray
    ) -> dict[str, np.ndarray]:
        return self._vjp(0, x, context, grad_y, grad_log_det)

    def vjp_inverse(
        self, y: np.ndarray, context: Any, grad_x: np.ndarray, grad_log_det: np.ndarray
    ) -> dict[str, np.ndarray]:
        return self._vjp(1, y, context, grad_x, grad_log_det)

    def _vjp(
        self, side: int, x: np.ndarray, context: Any, grad_y: np.ndarray, grad_log_det: np.ndarray
    ) -> dict[str, np.ndarray]:
        adapter = self._adapter
        tensors = adapter.tensors(self._spec) | {"x": adapter.tensor(x)}
        for tensor in tensors.values():
            tensor.requires_grad_()
        function = adapter.make(SpecView(self._spec, tensors))[side]
        given = None if context is None else adapter.tensor(context)
        output, log_det = function(tensors["x"], given)
        loss = (output * adapter.tensor(grad_y)).sum()
        loss = loss + (log_det * adapter.tensor(grad_log_det)).sum()
        found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
        return {
            path: (torch.zeros_like(leaf) if gradient is None else gradient).cpu().numpy()
            for (path, leaf), gradient in zip(tensors.items(), found, strict=True)
        }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def per_example(log_det: Any, x: Tensor) -> Tensor:
    """Broadcast a log-det, a number or of shape `()`, to `(B,)`."""
    return torch.as_tensor(log_det, dtype=x.dtype, device=x.device).expand(len(x))


def at_positions(function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Function:
    """Apply a map of vectors `(N, C)` to the channels at every position of `(B, C, H, W)`."""

    def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        y, log_det = function(rows)
        images = y.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return images, log_det.reshape(batch, height * width).sum(1)

    return apply


def in_groups(pairs: list[Pair]) -> Pair:
    """Apply one map to each group of channels; log-dets add."""

    def side(index: int) -> Function:
        def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            parts = [
                pair[index](group, context)
                for pair, group in zip(pairs, x.chunk(len(pairs), dim=1), strict=True)
            ]
            log_det = torch.stack([part[1] for part in parts]).sum(0)
            return torch.cat([part[0] for part in parts], dim=1), log_det

        return apply

    return side(0), side(1)
