"""The laws that any implementation of a case must satisfy.

To add a law:

1. Write its check in a module here; `conformance.laws.law` has an example, `Trial` the data.
2. Add one line to the table below.
3. Seed a bug that only this law detects in `tests/seeded_bugs/`, with `alone="<law>"`. If a bug in
   an implementation cannot break this law alone, give the reason in `NEVER_ALONE` of
   `test_seeded_bugs.py`.
4. Add its name to the table of laws in `docs/verification.md`.

A law that has compared nothing does not hold: it is reported as left out.
"""

from __future__ import annotations

from . import (
    alphabet,
    assignment,
    batch,
    bound,
    coding,
    conditional,
    consistency,
    contract,
    gradients,
    jacobians,
    layers,
    log_prob,
    normalization,
    random_specs,
    round_trips,
    scalars,
    sizes,
    special_values,
    threads,
    values,
)
from .law import Findings, Law

DETACHED = "a result is passed on without its gradient"
BATCH = "an example's result depends on the others in its batch"
CONTEXT = "the context of an image is not used, or another image's is"
SATURATION = "saturation: a clamp, or a sigmoid that rounds to 0 or 1"
MEMORY_ORDER = "memory is read in storage order instead of the array's index order"
SHARED = "a buffer or attribute is shared by calls in several threads"
SPECIAL = "a sign, comparison or division that special numbers are not considered in"
KEPT = "a value computed from the parameters is kept when they change"
STATE = "randomness, or state kept from call to call"

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        # Tolerances are two to five times the worst errors over twenty seeds in both dtypes.
        Law("forward", values.forward, 16, 16),
        Law("log_det", values.log_det, 48, 48),
        Law("inverse", values.inverse, 12, 12, "inverse"),
        Law("inverse_log_det", values.inverse_log_det, 24, 24, "inverse"),
        Law("round_trip_x", round_trips.round_trip_x, 12, 12),
        Law("round_trip_y", round_trips.round_trip_y, 16, 16, "inverse"),
        Law("opposite", round_trips.opposite, 12, 12, "inverse"),
        # 4.5e7 ulps are 1e-8, the resolution of finite differences.
        Law("jacobian", jacobians.jacobian, 4.5e7, 48),
        Law("inverse_jacobian", jacobians.inverse_jacobian, 4.5e7, 12, "inverse"),
        Law(
            "reference_jacobian",
            jacobians.reference_jacobian,
            4.5e7,
            24,
            "both",
            subject="reference",
            rounding=False,
        ),
        Law("batch", batch.batch, 16, 16, "both", hint=BATCH),
        # Another memory order is another order of summation: each result may be as inexact as
        # log_det.
        Law("layout", consistency.layout, 48, 48, "both", tolerance_of="batch", hint=MEMORY_ORDER),
        Law("determinism", consistency.determinism, 0, 0, "both", hint=STATE, rounding=False),
        # The same calculation in another thread may add in another order.
        Law(
            "threads",
            threads.threads,
            48,
            48,
            "both",
            tolerance_of="batch",
            hint=SHARED,
            rounding=False,
        ),
        Law(
            "assignment",
            assignment.assignment,
            48,
            48,
            "both",
            tolerance_of="batch",
            hint=KEPT,
            rounding=False,
        ),
        Law(
            "special_values",
            special_values.special_values,
            4096,
            4096,
            "both",
            rounding=False,
            hint=SPECIAL,
        ),
        Law("gradients", gradients.gradients, 4.5e7, 400, gradients=True),
        Law(
            "inverse_gradients",
            gradients.inverse_gradients,
            4.5e7,
            400,
            "inverse",
            gradients=True,
        ),
        Law(
            "log_prob_gradients",
            log_prob.log_prob_gradients,
            4.5e7,
            600,
            tolerance_of="gradients",
            gradients=True,
        ),
        Law("contract", contract.contract, 0, 0, "both", rounding=False),
        # Rounding may reverse neighbours by as much as `forward` may be inexact.
        Law(
            "monotone",
            scalars.monotone,
            16,
            16,
            tolerance_of="forward",
            requires="scalars",
            hint=SATURATION,
        ),
        Law(
            "onto",
            scalars.onto,
            1,
            1,
            "both",
            requires="scalars",
            hint=SATURATION,
            rounding=False,
        ),
        Law("both_tails", scalars.both_tails, 48, 48, "both", requires="scalars", hint=SATURATION),
        # 1e-8, the resolution of the quadrature; in float32 the mean of each point's rounding.
        Law(
            "normalization",
            normalization.normalization,
            4.5e7,
            16,
            "both",
            requires="densities",
            rounding=False,
        ),
        Law(
            "sampling",
            normalization.sampling,
            1,
            1,
            "both",
            requires="densities",
            rounding=False,
        ),
        # In units of 0.02 bits a point; float32 rounds noise near the end of an interval.
        Law(
            "coding",
            coding.coding,
            1,
            4,
            "both",
            requires="densities",
            rounding=False,
        ),
        Law("value", layers.value, 96, 96, family="layer"),
        Law("layer_batch", layers.layer_batch, 96, 96, family="layer", hint=BATCH),
        Law("layer_contract", layers.layer_contract, 16, 16, family="layer"),
        Law(
            "layer_layout",
            consistency.layer_layout,
            96,
            96,
            family="layer",
            tolerance_of="layer_batch",
            hint=MEMORY_ORDER,
        ),
        Law(
            "layer_threads",
            threads.layer_threads,
            96,
            96,
            family="layer",
            tolerance_of="layer_batch",
            hint=SHARED,
            rounding=False,
        ),
        Law(
            "layer_special_values",
            special_values.layer_special_values,
            4096,
            4096,
            family="layer",
            rounding=False,
            hint=SPECIAL,
        ),
        Law(
            "bound_gradients",
            bound.bound_gradients,
            4.5e7,
            12,
            family="layer",
            requires="bound",
            gradients=True,
            hint=DETACHED,
        ),
        Law(
            "discrete_normalization",
            alphabet.discrete_normalization,
            8,
            8,
            family="layer",
            requires="alphabet",
        ),
        Law(
            "contexts",
            conditional.contexts,
            96,
            96,
            family="layer",
            tolerance_of="value",
            requires="contexts",
            hint=CONTEXT,
        ),
        Law(
            "context_gradients",
            conditional.context_gradients,
            4.5e7,
            400,
            family="layer",
            requires="contexts",
            gradients=True,
        ),
        Law(
            "sizes",
            sizes.sizes,
            sizes.COARSE,
            sizes.COARSE,
            "both",
            "random",
            requires="sizes",
            rounding=False,
        ),
        Law("random_specs", random_specs.random_specs, 1, 1, "both", family="random"),
    )
}
"""Every law, in the order of the matrix's columns."""

__all__ = ["Findings", "LAWS", "Law"]
