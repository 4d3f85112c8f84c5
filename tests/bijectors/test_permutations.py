"""`Bijector.permutes` agrees with what each bijector does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import flowpp.bijectors
from bijector_cases import FIRST_CASES, file_name
from conformance.adapters.flowpp import from_reference
from conformance.cases import BIJECTOR_CASES

CLASSES = {
    file_name(kind): kind
    for kind in (getattr(flowpp.bijectors, name) for name in flowpp.bijectors.__all__)
}


def only_moves_numbers(case) -> bool:
    """Return whether a case's bijector gives the same numbers in another order, and log_det 0."""
    rng = np.random.default_rng(0)
    bijector = from_reference(case.build(rng), "float64")
    x = torch.from_numpy(case.typical(rng))
    context = case.context and torch.from_numpy(case.context(rng))
    y, log_det = bijector(x, context)
    before, after = (values.flatten(1).sort().values for values in (x, y))
    return torch.equal(before, after) and not log_det.any()


@pytest.mark.parametrize("name", FIRST_CASES)
def test_permutes_is_what_the_bijector_does(name):
    cases = [case for case in BIJECTOR_CASES.values() if case.name.split("/")[0] == name]
    assert CLASSES[name].permutes == all(only_moves_numbers(case) for case in cases)
