"""Cases: a specification, inputs to try it on, and tolerances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.numerics.jacobian import EVERYWHERE, Interval
from conformance.numerics.quadrature import Density

Draw = Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class Tolerance:
    """A tolerance in ulps in place of the law's default, with its reason; by dtype or for both."""

    ulps: float
    reason: str
    dtype: str | None = None


Tolerances = Mapping[str, "Tolerance | tuple[Tolerance, ...]"]


@dataclass(frozen=True)
class Scalars:
    """The scalars of a case that are mapped one by one: output i depends on input i alone.

    Attributes:
        low, high: Ends of the domain.
        range: Ends of the range.
        first_channel: First channel of these scalars; earlier channels are conditioned on and
            unchanged.
    """

    low: float = -np.inf
    high: float = np.inf
    range: tuple[float, float] = (-np.inf, np.inf)
    first_channel: int = 0


@dataclass(frozen=True)
class Case:
    """A bijector, for the laws of bijectors.

    Attributes:
        name: `class_in_snake_case/variant`.
        build: Function of a random generator that returns the reference object.
        typical: Function of a random generator that returns x `(B, C, H, W)` as in a model.
        tails: The same, as far out as the truth can be represented.
        context: Function of a random generator that returns the context, or None.
        noise: Function of a random generator that returns y for the laws of the inverse on typical
            inputs. Without it, and on tails, the images of x are taken.
        tolerances: Tolerances by law.
        fixed_batch: Whether parameters differ by example, so that batches have exactly B examples.
        without: Laws that do not apply, with reasons.
        domain, image: Open intervals that all numbers of x, and of y, lie in.
        margin: Inputs with an image nearer than this to an end of `image` are halved until there
            is none: a random network saturates, and images beyond the end have no inverse.
        scalars: The scalars that are mapped one by one, if there are any.
        densities: For maps of one or two numbers, the densities that integrate to 1.
    """

    name: str
    build: Draw
    typical: Draw
    tails: Draw
    context: Draw | None = None
    noise: Draw | None = None
    tolerances: Tolerances = field(default_factory=dict)
    fixed_batch: bool = False
    without: Mapping[str, str] = field(default_factory=dict)
    domain: Interval = EVERYWHERE
    image: Interval = EVERYWHERE
    margin: float = 0.0
    scalars: Scalars | None = None
    densities: tuple[Density, ...] = ()

    family = "bijector"


@dataclass(frozen=True)
class LayerCase:
    """A layer, dequantizer, model or function, for the laws of layers.

    Attributes:
        name: `class_in_snake_case/variant`.
        build: Function of a random generator that returns the reference object or function.
        typical, tails: Functions of a random generator that return named arguments of `run`.
        run: Function `(object, **arguments) -> {name: array}`, called with the reference's object
            and with the implementation's.
        batched: The example axis of each argument that has one, and so of all results; empty if
            examples are not independent.
        tolerances: Tolerances by law.
        without: Laws that do not apply, with reasons.
        alphabet: Whether the model has few enough images to enumerate.
        bound: Whether the object is a model, whose bound is trained.
        contexts: Function of a random generator that returns contexts of a conditional model,
            one an entry: every label, or any others that its argument `context` may hold.
        sizes: Function `(reference object, **arguments) -> {name: array}` of the sizes of results
            before a cancellation; eps times these is the unit of error. See `rounding.py`.
    """

    name: str
    build: Draw
    typical: Draw
    tails: Draw
    run: Callable[..., dict[str, np.ndarray]]
    batched: Mapping[str, int] = field(default_factory=dict)
    tolerances: Tolerances = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    alphabet: bool = False
    bound: bool = False
    contexts: Draw | None = None
    sizes: Callable[..., dict[str, np.ndarray]] | None = None

    family = "layer"


NETWORK: Tolerances = {
    "forward": Tolerance(200, "the network's rounding passes through the map"),
    "batch": Tolerance(
        300, "the order of summation in convolutions depends on the number of examples"
    ),
}
"""Tolerances of compositions that contain convolutions or networks."""


def allowed(case: Any, law: Any, dtype: str) -> Tolerance:
    """Return the tolerance of a law for a case: the case's own, or else the law's default.

    A law may use the tolerances of another one, which the same rounding magnifies.
    """
    for name in (law.name, law.tolerance_of):
        tolerance = stated_tolerance(case, name, dtype)
        if tolerance is not None:
            return tolerance
    return Tolerance(getattr(law, dtype), "default")


def stated_tolerance(case: Any, law_name: str, dtype: str) -> Tolerance | None:
    """Return the tolerance that a case states for a law at a dtype, if it states one."""
    stated = case.tolerances.get(law_name, ())
    for tolerance in (stated,) if isinstance(stated, Tolerance) else stated:
        if tolerance.dtype in (None, dtype):
            return tolerance
    return None
