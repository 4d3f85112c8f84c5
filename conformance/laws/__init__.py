"""The laws: what any implementation of a case has to satisfy.

A law takes a trial and yields labelled comparisons; its tolerance, in ulps, comes from the case.
It raises `Broken` where what is wrong has no size, and `NotSupported` where the implementation
leaves out what the law is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..compare import Comparison
from .batch import batch
from .contract import contract
from .gradients import gradients, inverse_gradients
from .jacobians import inverse_jacobian, jacobian, reference_jacobian
from .layers import layer_batch, layer_contract, value
from .round_trips import opposite, round_trip_x, round_trip_y
from .values import forward, inverse, inverse_log_det, log_det

Findings = Iterator[tuple[str, Comparison]]


@dataclass(frozen=True)
class Law:
    """A law by name. `family` says whether it speaks of bijectors or of layers and models.

    `float64` and `float32` are the tolerances in ulps where a case states no other.
    """

    name: str
    check: Callable[[Any], Findings]
    float64: float
    float32: float
    family: Literal["bijector", "layer"] = "bijector"

    @property
    def meaning(self) -> str:
        return (self.check.__doc__ or "").strip().splitlines()[0]


LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        # Errors seen are 2 to 10 times smaller.
        Law("forward", forward, 16, 16),
        Law("log_det", log_det, 48, 48),
        Law("inverse", inverse, 16, 16),
        Law("inverse_log_det", inverse_log_det, 16, 16),
        Law("round_trip_x", round_trip_x, 16, 16),
        Law("round_trip_y", round_trip_y, 32, 32),
        Law("opposite", opposite, 4, 4),
        # 1e-8: what finite differences still resolve.
        Law("jacobian", jacobian, 4.5e7, 48),
        Law("inverse_jacobian", inverse_jacobian, 4.5e7, 16),
        Law("reference_jacobian", reference_jacobian, 4.5e7, 48),
        Law("batch", batch, 16, 16),
        Law("gradients", gradients, 4.5e7, 200),
        Law("inverse_gradients", inverse_gradients, 4.5e8, 500),
        Law("contract", contract, 16, 16),  # another order of memory, another order of sums
        Law("value", value, 64, 64, "layer"),
        Law("layer_batch", layer_batch, 64, 64, "layer"),
        Law("layer_contract", layer_contract, 16, 16, "layer"),
    )
}
"""Every law, in the order of the matrix's columns."""
