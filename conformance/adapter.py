"""The door through which an implementation enters the suite.

An adapter is a class `Adapter(dtype="float64" | "float32", device="cpu")` with one method,
`build(spec)`. `spec` is an object of `reference`: its class and its fields are the specification.
What comes back speaks NumPy and has the methods of `spec`:

    a bijector     forward(x, context=None), inverse(y, context=None) -> (array, log_det of (B,))
    a layer        __call__(x, ...) -> array
    a dequantizer  sample(x, noise) -> (u, log_q), log_prob(x, u) -> log_q
    a model        elbo(x, noise) with the three terms of reference.objective.Elbo; encode, decode
    a function     __call__(...) (for the functions of reference.objective)

Real arrays are handed in as the adapter's dtype and are expected back in it; integer arrays
(images) come as integers. Two more methods of a bijector are optional, and prove its gradients:

    vjp(x, context, grad_y, grad_log_det) -> {"x": ..., "context": ..., "<field path>": ...}
    vjp_inverse(y, context, grad_x, grad_log_det) -> the same, through the inverse ("x" is y's)

the gradient of `sum(grad_y * y) + sum(grad_log_det * log_det)`. A field path is dotted, with
numbers for places in a tuple: `bijectors.0.weight`.
"""

from __future__ import annotations

import importlib
import traceback
from typing import Any, Literal, Protocol

DTYPES = ("float64", "float32")
Dtype = Literal["float64", "float32"]


class NotSupported(Exception):
    """The implementation does not have this; the message says what and why."""


class Adapter(Protocol):
    """See the module."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None: ...

    def build(self, spec: Any) -> Any:
        """The implementation's object for `spec`.

        Raises:
            NotSupported: there is none.
        """


class ReferenceAdapter:
    """The reference judged by its own laws (float64 only)."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if dtype != "float64":
            raise NotSupported(f"the reference computes in float64, not in {dtype}")
        if device != "cpu":
            raise NotSupported(f"the reference computes on the cpu, not on {device}")

    def build(self, spec: Any) -> Any:
        return spec


def load(name: str) -> type[Adapter]:
    """The adapter class named `module:Class`.

    Raises:
        ValueError: the name has another form, there is no such module or class, or the module
            raises when it is imported.
    """
    module_name, separator, class_name = name.partition(":")
    if not (module_name and separator and class_name):
        raise ValueError(f"An adapter is named module:Class, got {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"No module {error.name!r} for the adapter {name!r}") from error
    except Exception as error:  # a stranger's module: whatever it raises
        raise ValueError(
            f"The adapter {name!r} cannot be imported: {_where(error)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, class_name):
        raise ValueError(f"Module {module_name!r} has no class {class_name!r}")
    return getattr(module, class_name)


def _where(error: BaseException) -> str:
    """File and line that raised; a file that cannot be read as Python names its own."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}"
