"""A layer case at one dtype and one set of inputs: the values that laws share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from conformance.adapter import Adapter
from conformance.cases.case import LayerCase
from conformance.laws.guard import (
    Call,
    Violation,
    implementation,
    real_array,
    require_shape,
)
from conformance.laws.trial import Inputs, generator
from conformance.numerics.compare import unit_of
from conformance.numerics.specs import own_copy, round_to, rounded

Arrays = dict[str, np.ndarray]


class LayerTrial:
    """One layer case, adapter, dtype, set of inputs and seed.

    Attributes:
        calls: Number of times the implementation was run.
    """

    def __init__(
        self,
        case: LayerCase,
        adapter: type[Adapter],
        dtype: str,
        inputs: Inputs,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.case, self.dtype, self.inputs, self.seed = case, np.dtype(dtype), inputs, seed
        self._adapter, self._device = adapter, device
        self.calls = 0

    @cached_property
    def spec(self) -> Any:
        """The reference object, its arrays rounded to the dtype."""
        return rounded(self.case.build(generator(self.seed, self.case.name, "spec")), self.dtype)

    @cached_property
    def arguments(self) -> Arrays:
        """The inputs by name, real ones rounded to the dtype."""
        draw = getattr(self.case, self.inputs)
        drawn = draw(generator(self.seed, self.case.name, self.inputs))
        return {name: round_to(array, self.dtype) for name, array in drawn.items()}

    @cached_property
    def want(self) -> Arrays:
        """The reference's results."""
        return self.reference(self.arguments)

    @cached_property
    def units(self) -> Arrays:
        """The sizes of one ulp by result, where the case states those of the terms."""
        if self.case.sizes is None:
            return {}
        sizes = self.case.sizes(self.spec, **self.arguments)
        return {name: unit_of(size, self.dtype) for name, size in sizes.items()}

    def reference(self, arguments: Arrays) -> Arrays:
        """Return the reference's results for other inputs."""
        with np.errstate(all="ignore"):
            return self.case.run(self.spec, **arguments)

    @cached_property
    def built(self) -> Any:
        """The implementation's object, built from a copy of the specification."""
        spec = own_copy(self.spec, self.dtype)
        with implementation():
            return self._adapter(dtype=self.dtype.name, device=self._device).build(spec)

    @cached_property
    def got(self) -> Arrays:
        """The implementation's results."""
        return self.run(self.arguments)

    def run(self, arguments: Arrays) -> Arrays:
        """Return the implementation's results for copies of other inputs, in its dtype."""
        # Copies: a result that the next call overwrites must be compared as it was returned.
        results = self.run_uncopied({name: self.cast(a) for name, a in arguments.items()})
        return {name: array.copy() for name, array in results.items()}

    def run_uncopied(self, arguments: Arrays) -> Arrays:
        """Return the implementation's results for these inputs, passed uncopied.

        Raises:
            Violation: It returns something else than the reference does.
        """
        built = self.built
        with implementation(Call("a call", arguments)):
            results = self.case.run(built, **arguments)
        self.calls += 1
        if set(results) != set(self.want):
            raise Violation(f"results {sorted(results)}, not {sorted(self.want)}")
        arrays = {name: real_array(result, name) for name, result in results.items()}
        for name, array in arrays.items():
            shape = self._shape(name, arguments)
            empty = bool(self.case.batched) and shape[0] == 0
            require_shape(array, shape, f"{name} of an empty batch" if empty else name)
        return arrays

    def _shape(self, result: str, arguments: Arrays) -> tuple[int, ...]:
        """Return the shape that a result must have; a batch may have any number of examples."""
        shape = self.want[result].shape
        for name, axis in self.case.batched.items():
            return (arguments[name].shape[axis], *shape[1:])
        return shape

    def cast(self, array: np.ndarray) -> np.ndarray:
        """Return a copy of an input in the dtype under test; integers stay integers."""
        real = np.issubdtype(array.dtype, np.floating)
        return np.array(array, self.dtype if real else array.dtype)
