"""Cases of couplings with networks: each family, split and network variant."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.numerics.specs import shifted
from reference.bijectors import Chain, Checkerboard, ColumnStripes, Coupling

from .case import NETWORK, Case, Scalars, Tolerance
from .draws import CONTEXT, Rng, coupling, magnitudes, normal

SHAPE = (4, 2, 3)
SECOND_HALF = Scalars(first_channel=SHAPE[0] // 2)
_NARROW = "a scale of e^-8 magnifies the network's rounding of a mean 3000 times"
MAGNIFIED = {
    "forward": Tolerance(4500, _NARROW),
    "batch": Tolerance(4500, _NARROW),
    "inverse": Tolerance(40, "a mean's rounding in the network is one of x"),
}


def _case(variant: str, *, context: bool = False, **options: Any) -> Case:
    def build(rng: Rng) -> Coupling:
        return coupling(rng, *SHAPE, context=CONTEXT if context else 0, **options)

    return Case(
        f"coupling/{variant}",
        build,
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=30.0),
        context=normal(CONTEXT, *SHAPE[1:]) if context else None,
        noise=normal(*SHAPE),
        tolerances=NETWORK,
        scalars=SECOND_HALF,
    )


def _with_narrow_component(rng: Rng) -> Coupling:
    """Build one component with log-scales near -8: below the released floor, without plateaus."""
    spec = coupling(rng, *SHAPE, components=1)
    lower = np.zeros((SHAPE[0] // 2, 5))
    lower[:, 4] = -8.0
    return shifted(spec, "conditioner.proj_out.bias", lower.ravel())


def _over(split: type, variant: str) -> Case:
    """Return the case of a split before a coupling."""

    def build(rng: Rng) -> Chain:
        return Chain((split(), coupling(rng, 2, 3, 2, components=2)))

    return Case(
        f"coupling/{variant}",
        build,
        normal(1, 3, 4),
        magnitudes(1, 3, 4, largest=30.0),
        tolerances=NETWORK,
    )


CASES = (
    _case("affine", components=0),
    _case("affine_with_context", components=0, context=True),
    _case("mixture", blocks=2),
    _case("mixture_with_context", context=True),
    _case("mixture_weight_norm", weight_norm=True),
    _case("mixture_maxout", mixing="maxout"),
    _case("mixture_no_attention_with_context", mixing="none", context=True),
    _case("mixture_activate_last", activate_last=True),
    _case("mixture_floor", floor=-0.2),
    Case(
        "coupling/mixture_narrow",
        _with_narrow_component,
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=30.0),
        noise=normal(*SHAPE),
        tolerances=MAGNIFIED,
        scalars=SECOND_HALF,
    ),
    _case("mixture_thirty_two_components", components=32, mixing="none"),
    _over(Checkerboard, "over_checkerboard"),
    _over(ColumnStripes, "over_column_stripes"),
)
