"""All cases by name.

To add a bijector, add one file of the same name to each tree, and one `Case(...)` line to the
module here that it belongs to; its first case should be an ordinary one, for tests of every
bijector use it, and so does its random case unless `random.py` has another. The adapter finds the
twin by its name; a test checks that names and fields agree and that every class has a case.
"""

from __future__ import annotations

from . import (
    alphabets,
    colour,
    conditional,
    couplings,
    densities,
    elementwise,
    flows,
    initialized,
    layers,
    models,
    permutations,
    random,
)
from .case import Case, LayerCase, Tolerance, allowed
from .random import RandomCase

BIJECTOR_CASES: dict[str, Case] = {
    case.name: case
    for module in (elementwise, permutations, couplings, flows, densities)
    for case in module.CASES
}
LAYER_CASES: dict[str, LayerCase] = {
    case.name: case
    for module in (layers, models, initialized, alphabets, conditional, colour)
    for case in module.CASES
}
RANDOM_CASES: dict[str, RandomCase] = {
    case.name: case for case in (*random.CASES, *random.derived_cases(BIJECTOR_CASES.values()))
}
CASES: dict[str, Case | LayerCase | RandomCase] = {**BIJECTOR_CASES, **LAYER_CASES, **RANDOM_CASES}

__all__ = [
    "BIJECTOR_CASES",
    "CASES",
    "Case",
    "LAYER_CASES",
    "LayerCase",
    "RANDOM_CASES",
    "RandomCase",
    "Tolerance",
    "allowed",
]
