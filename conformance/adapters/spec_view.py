"""A specification seen through a library's arrays, and the maker of each of its parts.

`SpecView` looks like the reference object itself: the same attributes, but arrays come as the
library's, each a leaf under its field path, so that gradients for all of them can be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.adapter import NotSupported
from conformance.numerics.specs import float_arrays, objects
from reference.bijectors import Bijector

Function = Callable[[Any, Any], tuple[Any, Any]]
"""`(x, context) -> (y, log_det)` on a library's arrays, `(B, C, H, W)` and `(B,)`."""

Pair = tuple[Function, Function]
"""Forward and inverse."""


class SpecView:
    """A reference object whose arrays are those of `arrays`, by field path."""

    def __init__(self, spec: Any, arrays: Mapping[str, Any], path: str = "") -> None:
        self.spec, self._arrays, self._path = spec, arrays, path

    def __getattr__(self, name: str) -> Any:
        return self._seen(getattr(self.spec, name), f"{self._path}.{name}".lstrip("."))

    def _seen(self, value: Any, path: str) -> Any:
        if path in self._arrays:
            return self._arrays[path]
        if isinstance(value, tuple):
            return tuple(self._seen(item, f"{path}.{i}") for i, item in enumerate(value))
        return SpecView(value, self._arrays, path) if isinstance(value, Bijector) else value


class LibraryAdapter:
    """What an adapter inherits: one method for each bijector, named as its file is.

    A subclass has `library`, its name; methods such as `act_norm(fields) -> Pair`; and `absent`,
    reasons for the others where "has none" is not the whole truth.
    """

    library: str
    absent: Mapping[str, str] = {}

    def make(self, fields: SpecView) -> Pair:
        """Forward and inverse of the library's object for a specification.

        Raises:
            NotSupported: the library has none, or cannot be told these parameters.
        """
        spec = fields.spec
        name = type(spec).__module__.rsplit(".", 1)[-1]
        if not isinstance(spec, Bijector):
            raise NotSupported(f"{self.library} is asked for bijectors only")
        if name in self.absent:
            raise NotSupported(f"{self.library}: {self.absent[name]}")
        maker = getattr(self, name, None)
        if maker is None:
            raise NotSupported(f"{self.library} has no {type(spec).__name__}")
        return maker(fields)

    def inverse(self, fields: SpecView) -> Pair:
        """The two directions exchanged."""
        forward, inverse = self.make(fields.bijector)
        return inverse, forward

    def chain(self, fields: SpecView) -> Pair:
        """One after the other; log-dets add. The libraries' own compositions do just this."""
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
    """Arrays of real numbers by path, but for those of a coupling's network."""
    networks = tuple(path for path in float_arrays(spec) if "conditioner" in path.split("."))
    return {path: array for path, array in float_arrays(spec).items() if path not in networks}


def has_network(spec: Any) -> bool:
    """Whether there is a coupling in it: its network is the reference's, without gradients."""
    return any(hasattr(found, "conditioner") for found in objects(spec))


def parameters(coupling: SpecView, a: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """What the specification's own network says: raw `(B, C/2, H, W, P)`, float64."""
    raw = coupling.spec.conditioner(a, context)
    batch, _, height, width = raw.shape
    per_scalar = coupling.spec.family.parameters_per_scalar
    return np.moveaxis(raw.reshape(batch, -1, per_scalar, height, width), 2, -1)


def check_affine(coupling: SpecView, library: str) -> None:
    """Refuse any family but the affine one.

    Raises:
        NotSupported: the family has more than scale and shift.
    """
    if coupling.spec.family.parameters_per_scalar != 2:
        raise NotSupported(f"{library} has no coupling of logistic mixtures")
