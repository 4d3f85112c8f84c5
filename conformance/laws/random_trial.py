"""A random case at one dtype: the argument of a law over drawn specifications."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from conformance.adapter import Adapter
from conformance.cases.random import Drawn, RandomCase


@dataclass(frozen=True)
class Tried:
    """One size that the law `sizes` has tried: its features, whether it is right, any error."""

    features: dict[str, int]
    right: bool
    error: str = ""


@dataclass
class RandomTrial:
    """One random case, adapter, dtype and seed.

    Attributes:
        examples: Number of requested draws; a law may try several examples for each.
        worst: Worst error so far, as a fraction of the tolerance.
        worst_ulps: Worst error above its tolerance so far, in ulps; infinite without a size.
        allowed: Tolerance of that error.
        compared: Number of values compared so far.
        unsupported: Reasons for examples that the implementation does not support.
        tried: Sizes tried so far.
        shown: The worst of them, for the report.
    """

    case: RandomCase
    adapter: type[Adapter]
    dtype: np.dtype
    seed: int
    device: str
    examples: int
    worst: float = 0.0
    worst_ulps: float = 0.0
    allowed: float = 0.0
    compared: int = 0
    unsupported: list[str] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    shown: Drawn | None = None
