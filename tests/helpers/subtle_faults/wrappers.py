"""Wrappers of the reference whose results have the dtype of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.numerics.specs import map_arrays

Direction = Callable[..., tuple[np.ndarray, np.ndarray]]


def dtype_of(*arrays: Any) -> np.dtype:
    """Return the dtype of the first real array."""
    for array in arrays:
        if isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.floating):
            return array.dtype
    return np.dtype("float64")


class Faulty:
    """A bijector with directions replaced by functions `(spec, x, context) -> pair`."""

    def __init__(
        self, spec: Any, *, forward: Direction | None = None, inverse: Direction | None = None
    ) -> None:
        self.spec, self.directions = spec, {"forward": forward, "inverse": inverse}

    def forward(self, x, context=None):
        return self.call("forward", x, context)

    def inverse(self, y, context=None):
        return self.call("inverse", y, context)

    def call(self, direction, x, context):
        function = self.directions[direction] or getattr(type(self.spec), direction)
        with np.errstate(all="ignore"):
            pair = function(self.spec, x, context)
        return tuple(np.asarray(part).astype(x.dtype) for part in pair)


class FaultyLayer:
    """A layer or function, called through `change(layer, *arguments)`."""

    def __init__(self, layer: Any, change: Callable) -> None:
        self.layer, self.change = layer, change

    def __call__(self, *arguments, **options):
        with np.errstate(all="ignore"):
            result = self.change(self.layer, *arguments, **options)
        return np.asarray(result).astype(dtype_of(*arguments, *options.values()))


class FaultyModel:
    """A dequantizer or model with methods replaced by functions `(model, *arguments)`."""

    def __init__(self, model: Any, **methods: Callable) -> None:
        self.model, self.methods = model, methods

    def __getattr__(self, name: str) -> Any:
        own = self.methods.get(name)
        method = getattr(self.model, name)

        def call(*arguments):
            with np.errstate(all="ignore"):
                result = own(self.model, *arguments) if own else method(*arguments)
            return rounded(result, dtype_of(*arguments))

        return call


def rounded(value: Any, dtype: np.dtype) -> Any:
    """Round arrays, also those in tuples and in an Elbo."""
    if isinstance(value, tuple):
        return tuple(rounded(item, dtype) for item in value)
    if isinstance(value, np.ndarray):
        return value.astype(dtype)
    if hasattr(value, "log_prior"):
        terms = ("log_q", "log_det", "log_prior", "total")
        return type("Terms", (), {t: rounded(getattr(value, t), dtype) for t in terms})
    return value


class Plain(Faulty):
    """A bijector without a fault, with the optional methods."""

    def assign(self, spec):
        self.spec = map_arrays(spec, lambda path, array: array.copy())

    def initialize(self, *inputs):
        fitted, y = self.spec.initialize(*inputs)
        return Plain(fitted), y.astype(inputs[0].dtype)


class PlainLayer(FaultyLayer):
    """A layer or function without a fault."""

    def __init__(self, layer):
        super().__init__(layer, lambda layer, *arguments, **options: layer(*arguments, **options))

    def initialize(self, *inputs):
        fitted, y = self.layer.initialize(*inputs)
        return PlainLayer(fitted), y.astype(inputs[0].dtype)


def faultless(spec: Any) -> Any:
    """Return the reference of a specification, rounded to the dtype of its inputs."""
    if hasattr(spec, "inverse"):
        return Plain(spec)
    return (
        FaultyModel(spec) if hasattr(spec, "levels") or hasattr(spec, "elbo") else PlainLayer(spec)
    )
