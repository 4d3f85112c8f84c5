"""One conformance case of each exported bijector, so that tests of every bijector need no list."""

from __future__ import annotations

import numpy as np

import flowpp.bijectors
from conformance.adapters.flowpp import from_reference
from conformance.cases import BIJECTOR_CASES, Case
from reference import bijectors


def file_name(kind: type) -> str:
    """Return the name of the file that defines a class: InvertibleConvLU -> invertible_conv_lu."""
    return kind.__module__.rpartition(".")[2]


def first_cases() -> dict[str, Case]:
    """Return the first case of each bijector, by the name of its file.

    Raises:
        LookupError: A bijector has no case named after it.
    """
    missing = {file_name(getattr(bijectors, name)) for name in bijectors.__all__} - {"bijector"}
    found = {}
    for case in BIJECTOR_CASES.values():
        name = case.name.split("/")[0]
        if name in missing and file_name(type(case.build(np.random.default_rng(0)))) == name:
            found[name] = case
            missing.remove(name)
    if missing:
        raise LookupError(f"each bijector needs a case named after it, got none for {missing}")
    return found


FIRST_CASES = first_cases()


def flowpp_bijector(name: str) -> flowpp.bijectors.Bijector:
    """Build the bijector of `FIRST_CASES[name]` in float32."""
    return from_reference(FIRST_CASES[name].build(np.random.default_rng(0)), "float32")
