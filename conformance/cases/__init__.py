"""All cases by name.

To add a bijector: one file of the same name in each tree, and one `Case(...)` line in the module
here that it belongs to. The adapter finds the twin by its name; a test checks that names and
fields agree and that every class has a case.
"""

from __future__ import annotations

from . import couplings, elementwise, flows, layers, models, permutations
from .case import Case, LayerCase, Tolerance, allowed

BIJECTOR_CASES: dict[str, Case] = {
    case.name: case
    for module in (elementwise, permutations, couplings, flows)
    for case in module.CASES
}
LAYER_CASES: dict[str, LayerCase] = {
    case.name: case for module in (layers, models) for case in module.CASES
}
CASES: dict[str, Case | LayerCase] = {**BIJECTOR_CASES, **LAYER_CASES}

__all__ = [
    "BIJECTOR_CASES", "CASES", "Case", "LAYER_CASES", "LayerCase", "Tolerance", "allowed",
]
