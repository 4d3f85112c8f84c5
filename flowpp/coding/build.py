"""The step of each bijector: as in `reference.coding.build`."""

from __future__ import annotations

from torch import Tensor, nn

from flowpp.bijectors import (
    ActNorm,
    Affine,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    LiftedContext,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)

from .bins import Precision
from .elementwise import Broadcast, CouplingStep, elementwise
from .linear import convolution, matrices
from .steps import OnChannels, Permutation, Sequence, Step

PERMUTATIONS = (Checkerboard, ChannelSplit, ColumnStripes, Flip, Squeeze)


def step_of(bijector: nn.Module, precision: Precision, context: Tensor | None = None) -> Step:
    """Return the step of a bijector.

    Args:
        bijector: of `flowpp.bijectors`.
        precision: widths of bins.
        context: for its couplings.

    Raises:
        TypeError: a bijector without a coding step.
    """
    sigma, level, line = precision.sigma, precision.level_width, precision.delta
    match bijector:
        case Chain():
            return Sequence(tuple(step_of(b, precision, context) for b in bijector.bijectors))
        case Inverse():
            return step_of(bijector.bijector, precision, context).inverted()
        case FactorOut():
            return OnChannels(step_of(bijector.bijector, precision, context), _half)
        case FirstChannels():
            inner, channels = bijector.bijector, bijector.channels
            return OnChannels(step_of(inner, precision, context), lambda _: channels)
        case LiftedContext():
            lifted = None if context is None else bijector.lift(context)[0]
            return step_of(bijector.bijector, precision, lifted)
        case Coupling():
            return CouplingStep(bijector, context, sigma)
        case InvertibleConv() | InvertibleConvLU():
            return convolution(matrices(bijector), sigma)
        case DataLogit():
            return elementwise(bijector, sigma, widths=(level, line))
        case Sigmoid():
            limits = (None, precision.per_level)
            return elementwise(bijector, sigma, widths=(line, level), limits=limits)
        case ActNorm() | Affine() | MixtureLogistic():
            return Broadcast(bijector, sigma)
    if isinstance(bijector, PERMUTATIONS):
        return Permutation(bijector)
    raise TypeError(
        f"bijector must have a coding step in this package, got {type(bijector).__name__}"
    )


def _half(channels: int) -> int:
    return channels // 2
