"""What a case is: a specification, inputs to try it on, and the errors it is allowed."""

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
    """So many ulps instead of the law's default, and why. Both dtypes unless one is named."""

    ulps: float
    reason: str
    dtype: str | None = None


Tolerances = Mapping[str, "Tolerance | tuple[Tolerance, ...]"]


@dataclass(frozen=True)
class Scalars:
    """Which scalars of a case are mapped one by one: output i depends on input i alone.

    Attributes:
        low, high: ends of the domain.
        range: ends of the range.
        first_channel: these scalars and all after them; what is before them conditions and passes
            unchanged.
    """

    low: float = -np.inf
    high: float = np.inf
    range: tuple[float, float] = (-np.inf, np.inf)
    first_channel: int = 0


@dataclass(frozen=True)
class Case:
    """A bijector under all laws.

    Attributes:
        name: `class_in_snake_case/variant`.
        build: random generator -> reference object.
        typical: random generator -> x `(B, C, H, W)` as a model meets it.
        tails: likewise, as far out as the truth can be represented.
        context: random generator -> context, or None.
        noise: random generator -> y for the laws of the inverse on typical inputs; without it, and
            on tails, the images of x.
        tolerances: by law.
        fixed_batch: the spec's parameters differ by example, so only batches of B go in.
        without: laws that say nothing here, and why.
        domain, image: open intervals that all numbers of x, and of y, lie in.
        margin: inputs with an image nearer than this to an end of `image` are halved until there
            is none: a random network saturates, and what is beyond has no inverse.
        scalars: what of it is a map of scalars, if anything is.
        densities: for maps of one or two numbers, the densities that integrate to 1.
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
    """A layer, dequantizer, model or function, under the laws of equal value.

    Attributes:
        name: `class_in_snake_case/variant`.
        build: random generator -> reference object or function.
        typical, tails: random generator -> named arguments of `run`.
        run: `(object, **arguments) -> {name: array}`, called on the reference's object and on the
            implementation's alike.
        batched: the arguments, and with them all results, that have an example axis, and which;
            none where examples are not independent.
        tolerances: by law.
        without: laws that say nothing here, and why.
        alphabet: the model is small enough to go through all of its images.
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

    family = "layer"


NETWORK: Tolerances = {
    "forward": Tolerance(200, "the network's rounding passes through the map"),
    "batch": Tolerance(300, "convolutions sum in another order for another number of examples"),
}
"""For compositions with convolutions or networks in them."""


def allowed(case: Any, law: Any, dtype: str) -> Tolerance:
    """The tolerance of a law for a case: the case's own, or else the law's default.

    A law may be `like` another one: what magnifies rounding in the one does so in the other.
    """
    for name in (law.name, law.tolerance_of):
        stated = case.tolerances.get(name, ())
        for tolerance in (stated,) if isinstance(stated, Tolerance) else stated:
            if tolerance.dtype in (None, dtype):
                return tolerance
    return Tolerance(getattr(law, dtype), "default")
