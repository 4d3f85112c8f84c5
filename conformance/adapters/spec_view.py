"""View of a specification with a library's arrays, and the base class of library adapters.

`SpecView` has the attributes of the reference object, with its arrays replaced by the library's.
Each array is a leaf with a field path, so that gradients by all of them can be computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.adapter import NotSupported
from conformance.numerics.specs import float_arrays, objects
from reference.bijectors import Bijector

Function = Callable[[Any, Any], tuple[Any, Any]]
"""Map `(x, context) -> (y, log_det)` of a library's arrays, `(B, C, H, W)` and `(B,)`."""

Pair = tuple[Function, Function]
"""Forward and inverse."""


class SpecView:
    """View of a reference object, with arrays taken from `arrays` by field path."""

    def __init__(self, spec: Any, arrays: Mapping[str, Any], path: str = "") -> None:
        self.spec, self._arrays, self._path = spec, arrays, path

    def __getattr__(self, name: str) -> Any:
        return self._view(getattr(self.spec, name), f"{self._path}.{name}".lstrip("."))

    def _view(self, value: Any, path: str) -> Any:
        if path in self._arrays:
            return self._arrays[path]
        if isinstance(value, tuple):
            return tuple(self._view(item, f"{path}.{i}") for i, item in enumerate(value))
        return SpecView(value, self._arrays, path) if isinstance(value, Bijector) else value


class LibraryAdapter:
    """Base class of adapters, with one method for each bijector, named like its file.

    Attributes:
        library: Name of the library.
        absent: Reasons for missing bijectors, by name of the method; the default is that the
            library does not have the bijector.

    A subclass adds methods such as `act_norm(fields: SpecView) -> Pair`.
    """

    library: str
    absent: Mapping[str, str] = {}

    def make(self, fields: SpecView) -> Pair:
        """Return forward and inverse of the library's object for a specification.

        Raises:
            NotSupported: The library has no such map, or cannot use these parameters.
        """
        spec = fields.spec
        name = type(spec).__module__.rsplit(".", 1)[-1]
        if not isinstance(spec, Bijector):
            kind = type(spec).__name__
            raise NotSupported(f"{self.library}: spec must be a bijector, got {kind}")
        if name in self.absent:
            raise NotSupported(f"{self.library}: {self.absent[name]}")
        method = getattr(self, name, None)
        if method is None:
            raise NotSupported(f"{self.library} has no {type(spec).__name__}")
        return method(fields)

    def inverse(self, fields: SpecView) -> Pair:
        """Exchange the two directions."""
        forward, inverse = self.make(fields.bijector)
        return inverse, forward

    def chain(self, fields: SpecView) -> Pair:
        """Apply the bijectors in order and add their log-dets, as every library does."""
        parts = [self.make(part) for part in fields.bijectors]
        if not parts:
            raise NotSupported(f"{self.library} has no empty composition")

        def forward(x: Any, context: Any) -> tuple[Any, Any]:
            total: Any = 0.0
            for part, _ in parts:
                x, log_det = part(x, context)
                total = total + log_det
            return x, total

        def inverse(y: Any, context: Any) -> tuple[Any, Any]:
            total: Any = 0.0
            for _, part in reversed(parts):
                y, log_det = part(y, context)
                total = total + log_det
            return y, total

        return forward, inverse


def leaves(spec: Any) -> dict[str, np.ndarray]:
    """Return the real arrays by path, except those of a coupling's network."""
    networks = tuple(path for path in float_arrays(spec) if "conditioner" in path.split("."))
    return {path: array for path, array in float_arrays(spec).items() if path not in networks}


def has_network(spec: Any) -> bool:
    """Return whether `spec` contains a coupling, whose network is NumPy without gradients."""
    return any(hasattr(found, "conditioner") for found in objects(spec))


def parameters(coupling: SpecView, a: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """Compute the raw parameters `(B, C/2, H, W, P)` with the specification's network, float64."""
    raw = coupling.spec.conditioner(a, context)
    batch, channels, height, width = raw.shape
    per_scalar = coupling.spec.family.parameters_per_scalar
    split = raw.reshape(batch, channels // per_scalar, per_scalar, height, width)
    return np.moveaxis(split, 2, -1)


def check_affine(coupling: SpecView, library: str) -> None:
    """Require a coupling of the affine family.

    Raises:
        NotSupported: The family has more parameters than scale and shift.
    """
    if coupling.spec.family.parameters_per_scalar != 2:
        raise NotSupported(f"{library} has no coupling of logistic mixtures")
