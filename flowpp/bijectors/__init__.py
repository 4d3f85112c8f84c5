"""Bijectors, one class a file. The contract is in `flowpp.bijectors.bijector`.

Every bijector defined in a module of this folder is exported: a new one needs no line here.
"""

from __future__ import annotations

from importlib import import_module
from inspect import isclass
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from .bijector import Bijector

if TYPE_CHECKING:
    # Type checkers and editors cannot follow the discovery below. A bijector that is not listed
    # works, with type Any; a line here gives it its own type.
    def __getattr__(name: str) -> Any: ...

    from .act_norm import ActNorm as ActNorm
    from .affine import Affine as Affine
    from .chain import Chain as Chain
    from .channel_split import ChannelSplit as ChannelSplit
    from .checkerboard import Checkerboard as Checkerboard
    from .column_stripes import ColumnStripes as ColumnStripes
    from .coupling import Coupling as Coupling
    from .data_logit import DataLogit as DataLogit
    from .factor_out import FactorOut as FactorOut
    from .first_channels import FirstChannels as FirstChannels
    from .flip import Flip as Flip
    from .inverse import Inverse as Inverse
    from .invertible_conv import InvertibleConv as InvertibleConv
    from .invertible_conv_lu import InvertibleConvLU as InvertibleConvLU
    from .lifted_context import LiftedContext as LiftedContext
    from .mixture_logistic import MixtureLogistic as MixtureLogistic
    from .sigmoid import Sigmoid as Sigmoid
    from .squeeze import Squeeze as Squeeze


def _discover() -> dict[str, type[Bijector]]:
    """Return the bijectors that the modules of this folder define, by name."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isclass(value) and issubclass(value, Bijector) and value.__module__ == module.__name__
    }


_bijectors = _discover()
globals().update(_bijectors)
__all__ = sorted(_bijectors)
