"""The adapter interface.

An adapter is a class `Adapter(dtype="float64" | "float32", device="cpu")` with one method,
`build(spec)`. `spec` is an object of `reference`: the docstring of its class and its fields are
the specification. Its arrays are float64, and the adapter's own copies: it may share their memory.
The returned object takes and returns NumPy arrays and has the methods of `spec`:

    a bijector     forward(x, context=None), inverse(y, context=None) -> (array, log_det of (B,))
    a layer        __call__(x, ...) -> array
    a dequantizer  sample(x, noise) -> (u, log_q), log_prob(x, u) -> log_q
    an augmenter   sample(x, noise) -> (e, log_q), log_prob(x, e) -> log_q
    a model        elbo(x, noise) with the three terms of reference.objective.Elbo; encode, decode;
                   a conditional one takes a context as the last argument of each
    an encoder     __call__(context, image_shape) -> features
    a function     __call__(...) (for the functions of reference.objective)

Layers are in evaluation mode: dropout has no effect. Real arrays have the adapter's dtype, in both
directions; images are integer arrays. Two more methods of a bijector are optional and are needed
for the laws of gradients:

    vjp(x, context, grad_y, grad_log_det) -> {"x": ..., "context": ..., "<field path>": ...}
    vjp_inverse(y, context, grad_x, grad_log_det) -> the same through the inverse ("x" is y's)

They return the gradient of `sum(grad_y * y) + sum(grad_log_det * log_det)`. A field path is
dotted, with numbers for places in a tuple: `bijectors.0.weight`.

Two more methods of a model are optional, for the laws of its gradients, those of
`sum(weights * total)`:

    bound_gradient(x, noise, context, weights) -> {"<field path>": ...}; context may be None
    context_gradient(x, noise, context, weights) -> the gradient for the context

Another optional method changes the parameters in place, for the law of caches:

    assign(spec)   take the arrays of another specification of the same shapes

A batch may be empty; inputs may have any strides; a NaN gives NaN and an infinity no plausible
number, in the same example, or else a ValueError. Objects may be called by several threads, and
must not reseed a global random generator.

One more method of the adapter itself is optional:

    prepare()      compile or load whatever the first `build` or call would compile or load

It is called once per dtype in every process, before the time limit of any case starts.
"""

from __future__ import annotations

import importlib
import traceback
from typing import Any, Literal, Protocol

DTYPES = ("float64", "float32")
Dtype = Literal["float64", "float32"]
DEFAULT_ADAPTER = "conformance.adapters.flowpp:FlowppAdapter"


class NotSupported(Exception):
    """Raised for a part that the implementation lacks; the message says which, and why."""


class Adapter(Protocol):
    """The interface of an adapter; see the module."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None: ...

    def build(self, spec: Any) -> Any:
        """Return the implementation's object for a specification.

        Raises:
            NotSupported: The implementation has none.
        """


class ReferenceAdapter:
    """The reference under its own laws (float64 only)."""

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if dtype != "float64":
            raise NotSupported(f"the reference computes in float64, not in {dtype}")
        if device != "cpu":
            raise NotSupported(f"the reference computes on the cpu, not on {device}")

    def build(self, spec: Any) -> Any:
        return spec


def load(name: str) -> type[Adapter]:
    """Load the adapter class named `module:Class`.

    Raises:
        ValueError: The name has another form, the module or class does not exist, or the import
            fails.
    """
    module_name, separator, class_name = name.partition(":")
    if not (module_name and separator and class_name):
        raise ValueError(f"An adapter name must be module:Class, got {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"No module {error.name!r} for the adapter {name!r}") from error
    except (Exception, SystemExit) as error:  # an import may raise anything
        raise ValueError(
            f"The adapter {name!r} cannot be imported: {_location(error)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, class_name):
        raise ValueError(f"Module {module_name!r} has no class {class_name!r}")
    return getattr(module, class_name)


def _location(error: BaseException) -> str:
    """Return file and line of an error; for a syntax error, those of the unreadable file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}"
