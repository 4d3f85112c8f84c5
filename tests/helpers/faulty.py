"""The reference with mistakes in it: implementations that the suite has to see through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.judging.result import Result
from conformance.laws import LAWS


class FaultyBijector:
    """A reference bijector whose answers go through functions `(spec, x, context) -> answer`."""

    def __init__(self, spec: Any, directions: dict[str, Callable]) -> None:
        self.spec, self.directions = spec, directions

    def forward(self, x, context=None):
        return self._answer("forward", x, context)

    def inverse(self, y, context=None):
        return self._answer("inverse", y, context)

    def _answer(self, direction, x, context):
        # A float32 implementation, as far as the laws can tell: computed well, then rounded.
        dtype = np.asarray(x).dtype
        spoil = self.directions.get(direction)
        with np.errstate(all="ignore"):
            if spoil is None:
                answer = getattr(self.spec, direction)(x, context)
            else:
                answer = spoil(self.spec, x, context)
        return tuple(np.asarray(part).astype(dtype) for part in answer)


def faulty_adapter(**directions: Callable) -> type[ReferenceAdapter]:
    """An adapter for bijectors, in both dtypes."""

    class Adapter(ReferenceAdapter):
        def __init__(self, dtype="float64", device="cpu") -> None:
            pass

        def build(self, spec):
            return FaultyBijector(spec, directions)

    return Adapter


def judge_faulty(case: str, law: str, dtype: str = "float64", **directions: Callable) -> Result:
    """The cell of a spoiled reference."""
    return Judge(faulty_adapter(**directions)).judge(CASES[case], LAWS[law], dtype)
