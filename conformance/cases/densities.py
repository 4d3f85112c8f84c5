"""Cases of one or two numbers, including compositions, whose densities can be integrated."""

from __future__ import annotations

import numpy as np

from conformance.numerics.quadrature import Density
from reference.bijectors import (
    ActNorm,
    Affine,
    Bijector,
    Chain,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    LiftedContext,
    MixtureLogistic,
    Sigmoid,
)

from .case import NETWORK, Case, Scalars
from .draws import CONTEXT, Rng, act_norm, coupling, matrices, normal, uniform
from .elementwise import pixel_domain

LINE = (1, 1, 1)
PLANE = (1, 1, 2)
BOTH = (Density("forward"), Density("inverse"))
LEVELS = 4


def pixel_density(levels: int, margin: float = 0.05) -> Density:
    """Return the density on a DataLogit's domain, slightly beyond 0 and `levels`."""
    return Density("forward", *pixel_domain(levels, margin))


def _mixture(rng: Rng, components: int = 4) -> MixtureLogistic:
    shape = (1, *LINE, components)
    return MixtureLogistic(
        rng.standard_normal(shape), 1.5 * rng.standard_normal(shape), rng.uniform(-1.5, 1.0, shape)
    )


def _affine(rng: Rng) -> Affine:
    return Affine(rng.uniform(-1.0, 1.0, LINE), rng.standard_normal(LINE))


def _pixel(rng: Rng) -> Chain:
    return Chain((DataLogit(LEVELS), _mixture(rng), _affine(rng), act_norm(rng, 1)))


def _step(rng: Rng, context: int = 0) -> tuple[Bijector, ...]:
    return (
        act_norm(rng, 2),
        InvertibleConv(matrices(rng, 1, 2)),
        coupling(
            rng,
            2,
            1,
            1,
            components=2,
            mixing="none",
            filters=4,
            context=context,
        ),
        Flip(),
    )


def _two_pixels(rng: Rng) -> Chain:
    return Chain(
        (
            DataLogit(LEVELS),
            Checkerboard(),
            *_step(rng),
            *_step(rng),
            Inverse(Checkerboard()),
        )
    )


def _noise_to_e(rng: Rng) -> Chain:
    return Chain(
        (
            ColumnStripes(),
            *_step(rng, CONTEXT),
            *_step(rng, CONTEXT),
            Inverse(ColumnStripes()),
        )
    )


def _lifted(rng: Rng) -> Chain:
    steps = LiftedContext(Chain(_step(rng, 2 * CONTEXT)), ColumnStripes())
    return Chain((ColumnStripes(), steps, Inverse(ColumnStripes())))


def _noise_to_u(rng: Rng) -> Chain:
    return Chain((*_noise_to_e(rng).bijectors, Sigmoid()))


def _coupling(rng: Rng) -> Chain:
    return Chain((ColumnStripes(), coupling(rng, 2, 1, 1, components=3, mixing="none", filters=4)))


def _linear(rng: Rng) -> Chain:
    """Build three linear maps on (1, 2, 1), none with a Jacobian of 1, whose log-dets add up."""
    square = (1, 2, 2)
    lu = InvertibleConvLU(
        np.array([[1, 0]]),
        0.4 * rng.standard_normal(square),
        0.4 * rng.standard_normal(square),
        rng.uniform(0.2, 0.6, (1, 2)),
        np.array([[1.0, -1.0]]),
    )
    gain = rng.uniform(0.4, 0.8, (2, 1, 1))
    return Chain((lu, ActNorm(gain, rng.standard_normal((2, 1, 1)))))


def _positions(rng: Rng) -> Chain:
    """Draw maps of one channel, whose log-determinants count the two positions."""
    unit = np.ones((1, 1))
    lu = InvertibleConvLU(
        permutation=np.zeros((1, 1)),
        lower=np.zeros((1, 1, 1)),
        upper=np.zeros((1, 1, 1)),
        log_diagonal=0.7 * unit,
        signs=-unit,
    )
    gain, bias = rng.uniform(0.5, 2.0, (1, 1, 1)), rng.standard_normal((1, 1, 1))
    return Chain((ActNorm(gain, bias), InvertibleConv(np.full((1, 1, 1), 1.6)), lu))


CASES = (
    Case(
        "affine/line",
        _affine,
        normal(*LINE),
        normal(*LINE, scale=1e3),
        scalars=Scalars(),
        densities=BOTH,
    ),
    Case(
        "mixture_logistic/line",
        _mixture,
        normal(*LINE),
        normal(*LINE, scale=300.0),
        scalars=Scalars(),
        densities=BOTH,
    ),
    Case(
        "sigmoid/line",
        lambda rng: Sigmoid(),
        normal(*LINE),
        normal(*LINE, scale=3.0),
        image=(0.0, 1.0),
        densities=(Density("inverse", 0.0, 1.0),),
    ),
    Case(
        "chain/pixel",
        _pixel,
        uniform(*LINE, low=0.0, high=LEVELS),
        uniform(*LINE, low=0.0, high=LEVELS),
        domain=pixel_domain(LEVELS),
        densities=(pixel_density(LEVELS),),
    ),
    Case(
        "chain/linear_plane", _linear, normal(2, 1, 1), normal(2, 1, 1, scale=30.0), densities=BOTH
    ),
    Case(
        "chain/positions", _positions, normal(*PLANE), normal(*PLANE, scale=30.0), densities=BOTH
    ),
    Case(
        "coupling/plane",
        _coupling,
        normal(*PLANE),
        normal(*PLANE, scale=5.0),
        densities=BOTH,
        tolerances=NETWORK,
    ),
    Case(
        "flow/plane",
        _two_pixels,
        uniform(*PLANE, low=0.0, high=LEVELS),
        uniform(*PLANE, low=0.0, high=LEVELS),
        domain=pixel_domain(LEVELS),
        densities=(pixel_density(LEVELS),),
        tolerances=NETWORK,
    ),
    Case(
        "flow/augmentation_plane",
        _noise_to_e,
        normal(*PLANE),
        normal(*PLANE, scale=2.0),
        context=normal(CONTEXT, 1, 1),
        densities=BOTH,
        tolerances=NETWORK,
    ),
    Case(
        "flow/lifted_plane",
        _lifted,
        normal(*PLANE),
        normal(*PLANE, scale=2.0),
        context=normal(CONTEXT, *PLANE[1:]),
        densities=BOTH,
        tolerances=NETWORK,
    ),
    Case(
        "flow/dequantization_plane",
        _noise_to_u,
        normal(*PLANE),
        normal(*PLANE, scale=2.0),
        context=normal(CONTEXT, 1, 1),
        image=(0.0, 1.0),
        densities=(Density("inverse", 0.0, 1.0),),
        tolerances=NETWORK,
    ),
)
