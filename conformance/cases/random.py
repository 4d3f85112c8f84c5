"""Random cases: specifications of any shape and parameters, drawn by a search.

Ranges are as wide as the conditioning of the truth allows. A bijector without a random case in
`CASES` gets one from its first ordinary case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.numerics.jacobian import EVERYWHERE, Interval
from reference import bijectors
from reference.bijectors import (
    ActNorm,
    Affine,
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)

from . import sizes
from .case import NETWORK, Case, Tolerance, Tolerances
from .draws import Rng, coupling
from .permutations import SUMS
from .source import NumpySource, Source

Shape = tuple[int, int, int]
MAX_INPUT = 1000.0
MAX_SEED = 1000


@dataclass(frozen=True)
class Drawn:
    """A drawn specification and its inputs."""

    spec: Bijector
    x: np.ndarray


@dataclass(frozen=True)
class RandomCase:
    """A random case.

    Attributes:
        name: `class_in_snake_case/random`.
        make: Function of a source that returns a specification and inputs.
        tolerances: Tolerances by law, for the laws that each example is checked by.
        without: Laws that do not apply, with reasons.
        domain, image, margin: As in `Case`.
        sizes: Function of a random generator that yields specifications and inputs of many sizes,
            for the law `sizes`.
    """

    name: str
    make: Callable[[Source], Drawn]
    tolerances: Tolerances = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    domain: Interval = EVERYWHERE
    image: Interval = EVERYWHERE
    margin: float = 0.0
    sizes: sizes.Sizes | None = None

    family = "random"

    def build(self, rng: Rng) -> Any:
        """Draw one specification from a NumPy generator."""
        return self.make(NumpySource(rng)).spec


def _shape(source: Source, *, channels: int = 1, width: int = 1, height: int = 1) -> Shape:
    """Draw (C, H, W), multiples of the arguments; 2 and 3 distinguish H*H, H*W and a constant."""
    return (
        channels * source.integer(1, 2),
        height * source.integer(1, 3),
        width * source.integer(1, 3),
    )


def _inputs(source: Source, shape: Shape, largest: float = MAX_INPUT) -> np.ndarray:
    return source.extremes((source.integer(1, 3), *shape), largest)


def _act_norm(source: Source, shape: Shape) -> ActNorm:
    fields = source.choice([shape, (shape[0], 1, 1)])
    return ActNorm(0.1 + source.array(fields, 0.0, 4.0), source.array(fields, -4.0, 4.0))


def _affine(source: Source, shape: Shape) -> Affine:
    """Draw an affine map with fields of any shape that broadcasts."""
    fields = [
        tuple(source.choice([size, 1]) for size in shape)[source.integer(0, 2) :] for _ in range(2)
    ]
    return Affine(source.array(fields[0], -4.0, 4.0), source.array(fields[1], -8.0, 8.0))


def _mixture(source: Source, shape: Shape) -> MixtureLogistic:
    full = (1, *shape, source.integer(1, 3))
    logits, means = source.array(full, -8.0, 8.0), source.array(full, -4.0, 4.0)
    return MixtureLogistic(logits, means, source.array(full, -2.0, 2.0))


def _any(source: Source, shape: Shape) -> Bijector:
    """Draw one or two elementwise maps, or their inverses."""
    kinds = [_affine, _act_norm, _mixture]
    parts = []
    for _ in range(source.integer(1, 2)):
        part = source.choice(kinds)(source, shape)
        parts.append(Inverse(part) if source.choice([False, True]) else part)
    return Chain(tuple(parts))


def _elementwise(build: Callable[[Source, Shape], Bijector], largest: float = MAX_INPUT):
    def make(source: Source) -> Drawn:
        shape = _shape(source)
        return Drawn(build(source, shape), _inputs(source, shape, largest))

    return make


def _permutation(kind: Callable[[], Bijector], **multiples: int):
    def make(source: Source) -> Drawn:
        return Drawn(kind(), _inputs(source, _shape(source, **multiples), 1e6))

    return make


def _data_logit(source: Source) -> Drawn:
    levels = source.choice([2, 3, 8, 32, 256])
    x = 0.5 * levels * (1.0 + source.array((source.integer(1, 3), *_shape(source)), -1.0, 1.0))
    return Drawn(DataLogit(levels, source.choice([0.05, 0.01, 0.25, 0.4])), x)


def _sigmoid(source: Source) -> Drawn:
    return Drawn(Sigmoid(), source.array((source.integer(1, 3), *_shape(source)), -10.0, 10.0))


def _matrix(source: Source, groups: int, size: int) -> np.ndarray:
    """Draw invertible matrices: products of a permutation, a lower and an upper triangle."""
    lower = np.tril(source.array((groups, size, size), -1.0, 1.0), -1) + np.eye(size)
    upper = np.triu(source.array((groups, size, size), -1.0, 1.0), 1)
    diagonal = 1.0 + source.array((groups, size), -0.5, 1.0)
    upper = upper + np.stack([np.diag(d) for d in diagonal])
    return np.stack([(a @ b)[source.order(size)] for a, b in zip(lower, upper, strict=True)])


def _conv(source: Source) -> Drawn:
    groups, size = source.integer(1, 2), source.integer(1, 3)
    _, height, width = _shape(source)
    x = _inputs(source, (groups * size, height, width), 100.0)
    return Drawn(InvertibleConv(_matrix(source, groups, size)), x)


def _conv_lu(source: Source) -> Drawn:
    groups, size = source.integer(1, 2), source.integer(1, 3)
    _, height, width = _shape(source)
    square = (groups, size, size)
    spec = InvertibleConvLU(
        np.stack([source.order(size) for _ in range(groups)]),
        source.array(square, -0.75, 0.75),
        source.array(square, -0.75, 0.75),
        source.array(square[:2], -1.0, 1.0),
        1.0 - 2.0 * np.array([[source.integer(0, 1) for _ in range(size)] for _ in range(groups)]),
    )
    return Drawn(spec, _inputs(source, (groups * size, height, width), 100.0))


def _coupling(source: Source) -> Drawn:
    """Draw a coupling, its network from a seed: it has too many weights to shrink."""
    shape = _shape(source, channels=2)
    network: Coupling = coupling(
        np.random.default_rng(source.integer(0, MAX_SEED)),
        *shape,
        components=source.integer(0, 3),
        mixing=source.choice(["none", "attention", "maxout"]),
        weight_norm=source.choice([False, True]),
        filters=4,
    )
    return Drawn(network, source.extremes((source.integer(1, 3), *shape), 30.0))


def _factor_out(source: Source) -> Drawn:
    channels, height, width = _shape(source)
    inner = _any(source, (channels, height, width))
    return Drawn(FactorOut(inner), _inputs(source, (2 * channels, height, width), 30.0))


CASES = (
    RandomCase("act_norm/random", _elementwise(_act_norm), sizes=sizes.act_norms),
    RandomCase("affine/random", _elementwise(_affine), sizes=sizes.affines),
    RandomCase("mixture_logistic/random", _elementwise(_mixture), sizes=sizes.mixtures),
    RandomCase("data_logit/random", _data_logit, sizes=sizes.data_logits),
    RandomCase("sigmoid/random", _sigmoid, sizes=sizes.elementwise(sizes.sigmoid)),
    RandomCase(
        "checkerboard/random",
        _permutation(Checkerboard, width=2),
        sizes=sizes.permutation(Checkerboard, 1, 1, 2),
    ),
    RandomCase(
        "column_stripes/random",
        _permutation(ColumnStripes, width=2),
        sizes=sizes.permutation(ColumnStripes, 1, 1, 2),
    ),
    RandomCase(
        "channel_split/random",
        _permutation(ChannelSplit, channels=2),
        sizes=sizes.permutation(ChannelSplit, 2, 1, 1),
    ),
    RandomCase(
        "squeeze/random",
        _permutation(Squeeze, height=2, width=2),
        sizes=sizes.permutation(Squeeze, 1, 2, 2),
    ),
    RandomCase(
        "flip/random", _permutation(Flip, channels=2), sizes=sizes.permutation(Flip, 2, 1, 1)
    ),
    RandomCase("invertible_conv/random", _conv, SUMS, sizes=sizes.convolutions),
    RandomCase("invertible_conv_lu/random", _conv_lu, SUMS, sizes=sizes.lu_convolutions),
    RandomCase("coupling/random", _coupling, NETWORK, sizes=sizes.couplings),
    RandomCase(
        "chain/random",
        _elementwise(_any, 30.0),
        {"forward": Tolerance(128, "a second map magnifies the rounding of the first")},
        sizes=sizes.chains,
    ),
    RandomCase(
        "inverse/random",
        _elementwise(lambda source, shape: Inverse(_any(source, shape)), 30.0),
        {"forward": Tolerance(128, "a second map magnifies the rounding of the first")},
        sizes=sizes.elementwise(sizes.inverse),
    ),
    RandomCase(
        "factor_out/random",
        _factor_out,
        {"forward": Tolerance(128, "a second map magnifies the rounding of the first")},
        sizes=sizes.factored_out,
    ),
)


def derived_cases(cases: Iterable[Case]) -> Iterator[RandomCase]:
    """Yield a random case for each bijector that has none in `CASES`.

    It is derived from the bijector's first case without a context and without parameters that
    differ by example.
    """
    files = {getattr(bijectors, name).__module__.split(".")[-1] for name in bijectors.__all__}
    missing = files - {_class_of(case) for case in CASES}
    for case in cases:
        if _class_of(case) in missing and case.context is None and not case.fixed_batch:
            missing.remove(_class_of(case))
            yield derived_case(case)


def derived_case(case: Case) -> RandomCase:
    """Return a random case that draws seeds and inputs for an ordinary case.

    Shapes are the case's: only its author can state which others fit.
    """

    def make(source: Source) -> Drawn:
        spec = case.build(np.random.default_rng([0, source.integer(0, MAX_SEED)]))
        draw = source.choice([case.typical, case.tails])
        x = draw(np.random.default_rng([1, source.integer(0, MAX_SEED)]))
        return Drawn(spec, x[: source.integer(1, len(x))])

    return RandomCase(
        f"{_class_of(case)}/random",
        make,
        case.tolerances,
        case.without,
        case.domain,
        case.image,
        case.margin,
    )


def _class_of(case: Case | RandomCase) -> str:
    """Return the first part of a case's name: its class in snake case."""
    return case.name.split("/")[0]
