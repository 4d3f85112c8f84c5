"""Base of adapters of JAX libraries: conversion of arrays, and gradients by `jax.vjp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.adapters.spec_view import (
    Function,
    LibraryAdapter,
    SpecView,
    has_network,
    leaves,
    parameters,
)

from ..adapter import Dtype, NotSupported

UNPADDED = 8
"""Batches up to this size are not padded."""


class JaxLibraryAdapter(LibraryAdapter):
    """Adapter of a JAX library; a subclass adds a method for each map.

    Attributes:
        compiled: Compile every map. A library that computes with whole arrays is faster without,
            since JAX would compile each map anew; a coupling's network cannot be compiled.
    """

    compiled = False

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if device != "cpu":
            raise NotSupported(f"{self.library}: device must be cpu, got {device}")
        self.dtype = dtype

    def build(self, spec: Any) -> Any:
        """Build the library's map; it has gradients unless it contains a coupling's network."""
        built = NumpyMap(self, spec) if has_network(spec) else DifferentiableMap(self, spec)
        with self.precision():
            self.make(SpecView(spec, self.arrays(spec)))  # raises NotSupported
        return built

    def arrays(self, spec: Any) -> dict[str, Any]:
        """Return the specification's arrays by path."""
        return {path: self.array(array) for path, array in leaves(spec).items()}

    def array(self, array: Any) -> Any:
        return jnp.asarray(np.asarray(array), dtype=self.dtype)

    def precision(self) -> Any:
        """Return a context in which arrays have the adapter's dtype."""
        return jax.enable_x64(self.dtype == "float64")

    def raw(self, coupling: SpecView, a: Any, context: Any) -> Any:
        """Compute the network's parameters `(B, C/2, H, W, P)` from the conditioning half."""
        given = None if context is None else np.asarray(context, float)
        return self.array(parameters(coupling, np.asarray(a, float), given))


class NumpyMap:
    """Map of a library, with NumPy arrays as inputs and outputs."""

    def __init__(self, adapter: JaxLibraryAdapter, spec: Any) -> None:
        self._adapter, self._spec = adapter, spec
        self._sides = [self._side(0), self._side(1)]

    def forward(self, x: np.ndarray, context: Any = None) -> tuple[np.ndarray, np.ndarray]:
        return self._call(0, x, context)

    def inverse(self, y: np.ndarray, context: Any = None) -> tuple[np.ndarray, np.ndarray]:
        return self._call(1, y, context)

    def _side(self, index: int) -> Callable:
        def apply(arrays: dict[str, Any], x: Any, context: Any) -> tuple[Any, Any]:
            return self._adapter.make(SpecView(self._spec, arrays))[index](x, context)

        return jax.jit(apply) if self._adapter.compiled else apply

    def _call(self, side: int, x: np.ndarray, context: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, adapter = len(x), self._adapter
        if rows > UNPADDED:  # pad to a power of 2, so that few shapes are compiled
            padded = 1 << (rows - 1).bit_length()
            x = np.resize(x, (padded, *x.shape[1:]))
            context = None if context is None else np.resize(context, (padded, *context.shape[1:]))
        with adapter.precision():
            given = None if context is None else adapter.array(context)
            arrays = adapter.arrays(self._spec)
            try:
                output, log_det = self._sides[side](arrays, adapter.array(x), given)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                if rows:
                    raise
                reason = f"{adapter.library} accepts no empty batch: {error}"
                raise NotSupported(reason) from error
            return np.asarray(output)[:rows], np.asarray(log_det)[:rows]


class DifferentiableMap(NumpyMap):
    """Map with the gradient of sum(grad_y * y) + sum(grad_log_det * log_det)."""

    def vjp(self, x: Any, context: Any, grad_y: Any, grad_log_det: Any) -> dict[str, Any]:
        return self._vjp(0, x, context, grad_y, grad_log_det)

    def vjp_inverse(self, y: Any, context: Any, grad_x: Any, grad_log_det: Any) -> dict[str, Any]:
        return self._vjp(1, y, context, grad_x, grad_log_det)

    def _vjp(
        self, side: int, x: Any, context: Any, grad_y: Any, grad_log_det: Any
    ) -> dict[str, Any]:
        adapter = self._adapter
        with adapter.precision():
            given = None if context is None else adapter.array(context)
            variables = adapter.arrays(self._spec) | {"x": adapter.array(x)}
            _, pull = jax.vjp(lambda v: self._sides[side](v, v["x"], given), variables)
            (found,) = pull((adapter.array(grad_y), adapter.array(grad_log_det)))
            return {path: np.asarray(gradient) for path, gradient in found.items()}


def per_example(log_det: Any, x: Any) -> Any:
    """Broadcast a log-det of shape `()` or `(B,)` to `(B,)`."""
    return jnp.broadcast_to(jnp.asarray(log_det, x.dtype), (len(x),))


def in_groups_last(function: Callable, groups: int) -> Function:
    """Apply a map of `(B, H, W, G, c)` to images `(B, G * c, H, W)`."""

    def apply(x: Any, context: Any) -> tuple[Any, Any]:
        batch, channels, height, width = x.shape
        split = x.reshape(batch, groups, channels // groups, height, width)
        y, log_det = function(jnp.moveaxis(split, (1, 2), (3, 4)))
        return jnp.moveaxis(y, (3, 4), (1, 2)).reshape(x.shape), log_det

    return apply


def pixel_order(spec: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return a permutation of pixels as flat indices, and the shape of its output.

    Args:
        spec: a bijector that only moves entries.
        shape: (C, H, W), shape of an input.
    """
    places, _ = spec.forward(np.arange(np.prod(shape)).reshape(1, *shape))
    return places.ravel().astype(int), places.shape[1:]


def inverse_pixel_order(spec: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the permutation of `pixel_order` and its input's shape, from an output's shape."""
    places, _ = spec.inverse(np.arange(np.prod(shape)).reshape(1, *shape))
    return np.argsort(places.ravel().astype(int)), places.shape[1:]
