"""Reference bijectors with a deliberate error each, which the suite must detect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from conformance.reports.result import Result


class FaultyBijector:
    """A reference bijector with directions replaced by functions `(spec, x, context) -> pair`."""

    def __init__(self, spec: Any, directions: dict[str, Callable]) -> None:
        self.spec, self.directions = spec, directions

    def forward(self, x, context=None):
        return self._call("forward", x, context)

    def inverse(self, y, context=None):
        return self._call("inverse", y, context)

    def _call(self, direction, x, context):
        # Computed in float64 and rounded to the input's dtype: an accurate implementation.
        dtype = np.asarray(x).dtype
        fault = self.directions.get(direction)
        with np.errstate(all="ignore"):
            if fault is None:
                result = getattr(self.spec, direction)(x, context)
            else:
                result = fault(self.spec, x, context)
        return tuple(np.asarray(part).astype(dtype) for part in result)


def faulty_adapter(**directions: Callable) -> type[ReferenceAdapter]:
    """Return an adapter of `FaultyBijector`, for both dtypes."""

    class Adapter(ReferenceAdapter):
        def __init__(self, dtype="float64", device="cpu") -> None:
            pass

        def build(self, spec):
            return FaultyBijector(spec, directions)

    return Adapter


def judge_faulty(case: str, law: str, dtype: str = "float64", **directions: Callable) -> Result:
    """Return the result of a case whose bijector is a `FaultyBijector`."""
    return Judge(faulty_adapter(**directions)).judge(CASES[case], LAWS[law], dtype)
