"""The laws: what any implementation of a case has to satisfy.

A law takes a trial and yields labelled comparisons, and what it could not compare (`Unresolved`);
its tolerance, in ulps, comes from the case. It raises `Violation` where what is wrong has no size,
`NotSupported` where the implementation leaves out what the law is about, and `LeftOut` where the
law has nothing to say. A law that has compared nothing is left out too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from conformance.numerics.compare import Comparison, Unresolved

from .alphabet import discrete_normalization
from .batch import batch
from .consistency import determinism, layout
from .contract import contract
from .gradients import gradients, inverse_gradients
from .jacobians import inverse_jacobian, jacobian, reference_jacobian
from .layers import layer_batch, layer_contract, value
from .log_prob import log_prob_gradients
from .normalization import normalization, sampling
from .random_specs import random_specs
from .round_trips import opposite, round_trip_x, round_trip_y
from .scalars import monotone, onto
from .values import forward, inverse, inverse_log_det, log_det

Findings = Iterator[tuple[str, Comparison | Unresolved]]


@dataclass(frozen=True)
class Law:
    """A law by name. `family` says whether it speaks of bijectors, of layers, or of any spec.

    `float64` and `float32` are the tolerances in ulps where a case states no other, neither for
    this law nor for the one that it is `like`. `about` names what a case must have for the law to
    say anything: an attribute that is not empty.
    """

    name: str
    check: Callable[[Any], Findings]
    float64: float
    float32: float
    family: Literal["bijector", "layer", "random"] = "bijector"
    like: str = ""
    about: str = ""

    @property
    def meaning(self) -> str:
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def applies(self, case: Any) -> bool:
        return self.family == case.family and bool(not self.about or getattr(case, self.about))


LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        # Two to five times the worst errors seen over twenty seeds in both dtypes.
        Law("forward", forward, 16, 16),
        Law("log_det", log_det, 48, 48),
        Law("inverse", inverse, 12, 12),
        Law("inverse_log_det", inverse_log_det, 24, 24),
        Law("round_trip_x", round_trip_x, 12, 12),
        Law("round_trip_y", round_trip_y, 16, 16),
        Law("opposite", opposite, 12, 12),
        # 1e-8: what finite differences still resolve.
        Law("jacobian", jacobian, 4.5e7, 48),
        Law("inverse_jacobian", inverse_jacobian, 4.5e7, 12),
        Law("reference_jacobian", reference_jacobian, 4.5e7, 24),
        Law("batch", batch, 16, 16),
        # Another order of memory, another order of sums: each may be wrong by as much as log_det.
        Law("layout", layout, 48, 48, like="batch"),
        Law("determinism", determinism, 0, 0),
        Law("gradients", gradients, 4.5e7, 400),
        Law("inverse_gradients", inverse_gradients, 4.5e7, 400),
        Law("log_prob_gradients", log_prob_gradients, 4.5e7, 600, like="gradients"),
        Law("contract", contract, 0, 0),
        # Rounding may turn the order of neighbours round, by what `forward` may be wrong.
        Law("monotone", monotone, 16, 16, like="forward", about="scalars"),
        Law("onto", onto, 1, 1, about="scalars"),
        # 1e-8, as the quadrature resolves; in float32 the rounding of every point, averaged.
        Law("normalization", normalization, 4.5e7, 16, about="densities"),
        Law("sampling", sampling, 1, 1, about="densities"),
        Law("value", value, 96, 96, "layer"),
        Law("layer_batch", layer_batch, 96, 96, "layer"),
        Law("layer_contract", layer_contract, 16, 16, "layer"),
        Law("discrete_normalization", discrete_normalization, 8, 8, "layer", about="alphabet"),
        Law("random_specs", random_specs, 1, 1, "random"),
    )
}
"""Every law, in the order of the matrix's columns."""
