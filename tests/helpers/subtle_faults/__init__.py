"""NumPy implementations with one subtle fault each, by kind: what the suite must detect.

Every implementation is the reference, computed in float64 and rounded to the input's dtype, except
for its fault. A fault is a function of a specification that returns the faulty object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.adapter import NotSupported, ReferenceAdapter

from .wrappers import faultless

__all__ = ["FAULTS", "Fault", "adapter_of", "fault", "without_fault"]

Build = Callable[[Any], Any]


@dataclass(frozen=True)
class Fault:
    """A fault, its kind, the reference classes it is in, and the cell that detects it.

    `case`, `law` and `dtype` name one cell that fails. `hint` is a part of that cell's hint; empty
    where none names the cause.
    """

    name: str
    kind: str
    build: Build
    classes: tuple[str, ...]
    case: str
    law: str
    dtype: str
    hint: str


FAULTS: dict[str, Fault] = {}


def fault(
    kind: str, classes: str, case: str, law: str, *, dtype: str = "float64", hint: str = ""
) -> Callable[[Build], Build]:
    """Register a fault under its function's name; `classes` are separated by spaces."""

    def register(build: Build) -> Build:
        name = build.__name__
        if name in FAULTS:
            raise ValueError(f"two faults are named {name}")
        FAULTS[name] = Fault(name, kind, build, tuple(classes.split()), case, law, dtype, hint)
        return build

    return register


def adapter_of(one: Fault) -> type[ReferenceAdapter]:
    """Return an adapter, for both dtypes, of the faulty classes alone."""

    class Adapter(ReferenceAdapter):
        def __init__(self, dtype="float64", device="cpu") -> None:
            self.dtype = dtype

        def build(self, spec):
            name = getattr(spec, "__name__", type(spec).__name__)
            if name not in one.classes:
                raise NotSupported(f"no {name}")
            return one.build(spec)

    return Adapter


def without_fault() -> type[ReferenceAdapter]:
    """Return an adapter, for both dtypes, of the reference without a fault."""

    class Adapter(ReferenceAdapter):
        def __init__(self, dtype="float64", device="cpu") -> None:
            self.dtype = dtype

        def build(self, spec):
            return faultless(spec)

    return Adapter


from . import in_inputs, in_sizes, in_state, in_values  # noqa: E402, F401  (each registers its faults)
