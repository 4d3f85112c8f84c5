"""A bijector case at one dtype and one set of inputs: the values that laws share.

Each value is computed on first use and cached: the specification with its arrays rounded to the
dtype, the inputs, the reference's results, the implementation, the finite differences, and the
units that account for the conditioning.

Units. Inputs and outputs are rounded to the dtype, and the map magnifies that rounding. With
J = dy/dx of the reference and A = J^-1, the error by rounding alone is, to first order,

    to x found from y         u_i = eps max(1, |x_i| + sum_j |A_ij| max(1, |y_j|))
    to y found from x         u_i = eps max(1, |y_i| + sum_j |J_ij| max(1, |x_j|))
    to log_det along x or y   u   = eps max(1, |l| + sum_j |dl/dx_j| u_j / eps)

and at least the change of the reference's own result when its argument moves: of the inverse when
y moves by 2 roundings up and down, because first order is too little on a plateau; and of y and
log_det at the root when x moves by one, because finite differences miss a component narrower than
their steps, which one rounding of x may cross. So an error where the map is ill-conditioned does
not fail a law; a clamp does, because it errs where the map is well conditioned.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np

from conformance.adapter import Adapter, NotSupported
from conformance.cases.case import Case
from conformance.laws.guard import Call, call_at, checked_pair, guarded, implementation
from conformance.laws.guard import Violation as Violation
from conformance.numerics.jacobian import Interval, Jacobian, inverse_or_inf, jacobian
from conformance.numerics.specs import (
    differences,
    float_arrays,
    map_arrays,
    own_copy,
    round_to,
    rounded,
)

MAX_HALVINGS = 32
"""Halvings of inputs for a case's margin. If these do not suffice, 0 violates the margin too."""

Inputs = Literal["typical", "tails"]
Pair = tuple[np.ndarray, np.ndarray]


class LeftOut(Exception):
    """Raised where a law does not apply to the case; the message says why."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator determined by the seed and the names, on every machine."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


class Trial:
    """One case, adapter, dtype, set of inputs and seed: the argument of a law of bijectors.

    Arrays are float64 and exact in `dtype`, except the implementation's results, which have the
    dtype that it returned. A pair is (array, log_det) with log_det of shape `(B,)`.

    Attributes:
        case: The case: domain, range, tolerances.
        dtype: The dtype under test.
        eps: Its machine epsilon.
        inputs: Set of inputs, "typical" or "tails".
        seed: Seed of the specification and the inputs.
        spec: The reference object.
        x, y: Inputs of forward and of inverse, `(B, C, H, W)`.
        context: The context, or None.
        want_forward, want_inverse: The reference's pairs at `x` and at `y`.
        got_forward, got_inverse: The implementation's pairs there.
        built: The implementation's object.
        calls: Number of times its methods were called or taken.
        shown: The call whose results a law compares next, if its input is neither `x` nor `y`: set
            by the law, for the report.
        unit_of_inverse, unit_of_inverse_log_det: Units of the pair at `y`; see the module.
        unit_of_round_trip_x, unit_of_round_trip_y: Units of the round trips.
    """

    def __init__(
        self,
        case: Case,
        adapter: type[Adapter],
        dtype: str,
        inputs: Inputs,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.case, self.dtype, self.inputs, self.seed = case, np.dtype(dtype), inputs, seed
        self._adapter, self._device = adapter, device
        self.eps = float(np.finfo(dtype).eps)
        self._cache: dict[Any, Any] = {}
        self.calls = 0
        self.shown: Call | None = None

    def cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return a value that several laws share, computing it on first use."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator determined by the seed, the case and the purpose."""
        return generator(self.seed, self.case.name, purpose)

    # Specification and inputs

    @cached_property
    def spec(self) -> Any:
        """The reference object, its arrays rounded to the dtype."""
        return rounded(self.case.build(self.rng("spec")), self.dtype)

    @cached_property
    def other_spec(self) -> Any:
        """Another reference object that differs only in the values of its real arrays, or None."""
        other = rounded(self.case.build(self.rng("other spec")), self.dtype)
        shapes = [{p: a.shape for p, a in float_arrays(s).items()} for s in (self.spec, other)]
        if shapes[0] != shapes[1] or not differences(self.spec, other):
            return None
        values = float_arrays(other)
        moved = map_arrays(self.spec, lambda path, array: values.get(path, array))
        return None if differences(moved, other) else other

    @cached_property
    def x(self) -> np.ndarray:
        """Inputs of forward, at the case's margin from the ends of the range."""
        x = round_to(getattr(self.case, self.inputs)(self.rng(self.inputs)), self.dtype)
        low, high = (
            end + sign * self.case.margin
            for end, sign in zip(self.case.image, (1, -1), strict=True)
        )
        for _ in range(MAX_HALVINGS if self.case.margin else 0):
            y = self.reference("forward", x)[0]
            far = ((y < low) | (y > high)).any(axis=(1, 2, 3))
            if not far.any():
                break
            x[far] /= 2
        return x

    @cached_property
    def context(self) -> np.ndarray | None:
        """The context, or None for a case without one."""
        if self.case.context is None:
            return None
        return round_to(self.case.context(self.rng("context")), self.dtype)

    @cached_property
    def y(self) -> np.ndarray:
        """Inputs of the inverse: the case's noise, or else the image of `x`.

        An image that is rounded to an end of the open interval has no inverse; it is replaced by
        its neighbour inside.
        """
        noise = None if self.case.noise is None else self.case.noise(self.rng("noise"))
        if noise is None or self.inputs == "tails":
            noise = self.want_forward[0]
        low, high = (self.dtype.type(end) for end in self.case.image)
        inside = (
            np.nextafter(low, high) if np.isfinite(low) else low,
            np.nextafter(high, low) if np.isfinite(high) else high,
        )
        return np.clip(round_to(noise, self.dtype), *inside).astype(np.float64)

    # The reference

    @cached_property
    def want_forward(self) -> Pair:
        """The reference's (y, log_det) at `x`."""
        return self.reference("forward", self.x)

    @cached_property
    def want_inverse(self) -> Pair:
        """The reference's (x, log_det) at `y`."""
        return self.reference("inverse", self.y)

    def reference(self, direction: str, x: np.ndarray) -> Pair:
        """Return the reference's pair at other inputs, with the trial's context."""
        with np.errstate(all="ignore"):
            return getattr(self.spec, direction)(x, self.context)

    # The implementation

    @cached_property
    def given_spec(self) -> Any:
        """The copy of the specification that the implementation was built from."""
        return own_copy(self.spec, self.dtype)

    @cached_property
    def built(self) -> Any:
        """The implementation's object, as the adapter built it."""
        given = self.given_spec
        with implementation():
            return self._adapter(dtype=self.dtype.name, device=self._device).build(given)

    def build(self, spec: Any) -> Any:
        """Return an implementation of a copy of a specification."""
        given = own_copy(spec, self.dtype)
        with implementation():
            return self._adapter(dtype=self.dtype.name, device=self._device).build(given)

    def forward(self, x: np.ndarray, context: np.ndarray | None = None) -> Pair:
        """Return the implementation's (y, log_det) for copies of other inputs in the dtype."""
        return self._call("forward", x, context)

    def inverse(self, y: np.ndarray, context: np.ndarray | None = None) -> Pair:
        """Return the implementation's (x, log_det) for copies of other inputs in the dtype."""
        return self._call("inverse", y, context)

    @cached_property
    def got_forward(self) -> Pair:
        """The implementation's (y, log_det) at `x`."""
        return self.forward(self.x, self.context)

    @cached_property
    def got_inverse(self) -> Pair:
        """The implementation's (x, log_det) at `y`."""
        return self.inverse(self.y, self.context)

    def optional(self, method: str, built: Any = None) -> Callable:
        """Return an optional method of the implementation, or of another object it has built.

        Raises:
            NotSupported: The implementation lacks it.
        """
        one = self.built if built is None else built
        with implementation():
            found = getattr(one, method, None)
        if found is None:
            raise NotSupported(f"the implementation has no {method}")
        self.calls += 1
        return guarded(found)

    def cast(self, x: np.ndarray | None) -> np.ndarray | None:
        """Return a copy in the dtype under test; None for None."""
        return None if x is None else np.array(x, self.dtype)

    def _call(self, direction: str, x: np.ndarray, context: np.ndarray | None) -> Pair:
        # Copies: a result that the next call overwrites must be compared as it was returned.
        output, log_det = self.call(direction, self.cast(x), self.cast(context))
        return output.copy(), log_det.copy()

    def call(self, direction: str, x: Any, context: Any, built: Any = None) -> Pair:
        """Return (array, log_det) of the implementation, or of another object it has built.

        The arrays are passed uncopied.

        Raises:
            Violation: The implementation returns something else.
        """
        one = self.built if built is None else built
        like = self.want_forward[0] if direction == "forward" else self.x
        with implementation(call_at(direction, x, context)):
            result = getattr(one, direction)(x, context)
            self.calls += 1
            return checked_pair(result, direction, (len(x), *like.shape[1:]))

    # Jacobians by finite differences

    @cached_property
    def reference_jacobian_at_x(self) -> Jacobian:
        """Jacobian of the reference's forward map at `x`."""
        return self._jacobian(self.spec.forward, self.x, self.case.domain)

    @cached_property
    def reference_jacobian_at_inverse(self) -> Jacobian:
        """Jacobian of the reference's forward map at its inverse of `y`."""
        return self._jacobian(self.spec.forward, self.want_inverse[0], self.case.domain)

    def forward_jacobian(self) -> Jacobian:
        """Return the Jacobian of the implementation's forward map at `x`."""
        return self._jacobian(self.forward, self.x, self.case.domain)

    def inverse_jacobian(self) -> Jacobian:
        """Return the Jacobian of the implementation's inverse map at `y`."""
        x_unit, log_det_unit = self.unit_of_inverse, self.unit_of_inverse_log_det
        noise = np.concatenate([x_unit.reshape(len(x_unit), -1), log_det_unit[:, None]], axis=1)
        return self._jacobian(self.inverse, self.y, self.case.image, noise)

    def _jacobian(
        self, function: Callable, x: np.ndarray, domain: Interval, noise: np.ndarray | None = None
    ) -> Jacobian:
        fixed = self.case.fixed_batch
        return jacobian(function, x, self.context, fixed_batch=fixed, noise=noise, domain=domain)

    # Units

    @cached_property
    def unit_of_round_trip_x(self) -> np.ndarray:
        """Unit of x = inverse(forward(x))."""
        y = self.want_forward[0]
        unit = self._unit_of_x(self.reference_jacobian_at_x, self.x, y)
        return np.maximum(unit, self._spread(y)[0])

    @cached_property
    def unit_of_inverse(self) -> np.ndarray:
        """Unit of x = inverse(y)."""
        unit = self._unit_of_x(self.reference_jacobian_at_inverse, self.want_inverse[0], self.y)
        return np.maximum(unit, self._spread_at_y[0])

    @cached_property
    def unit_of_round_trip_y(self) -> np.ndarray:
        """Unit of y = forward(inverse(y))."""
        magnitude = _magnitude(self.reference_jacobian_at_inverse.matrix, self.want_inverse[0])
        unit = self._unit(self.y, magnitude.reshape(self.y.shape))
        return np.maximum(unit, self._spread_at_root[0])

    @cached_property
    def unit_of_inverse_log_det(self) -> np.ndarray:
        """Unit of the inverse's log-det at `y`, which is evaluated at an x known to its unit."""
        slope = np.abs(np.nan_to_num(self.reference_jacobian_at_inverse.log_det_gradient))
        flat = self.unit_of_inverse.reshape(len(slope), -1) / self.eps
        with np.errstate(invalid="ignore"):  # on a plateau the gradient is 0 and x arbitrary
            change = np.where(slope == 0, 0.0, slope * flat).sum(axis=1)
        unit = np.maximum(self._unit(self.want_inverse[1], change), self._spread_at_y[1])
        return np.maximum(unit, self._spread_at_root[1])

    @cached_property
    def _spread_at_y(self) -> Pair:
        return self._spread(self.y)

    @cached_property
    def _spread_at_root(self) -> Pair:
        return self._spread_of_forward(self.want_inverse[0])

    def spread_units(self, y: np.ndarray, want: Pair) -> Pair:
        """Return units of the inverse at other y: of rounding, and of the spreads of y and x."""
        x, log_det = self._spread(y)
        at_root = self._spread_of_forward(want[0])[1]
        return self._unit(want[0], x / self.eps), self._unit(
            want[1], np.maximum(log_det, at_root) / self.eps
        )

    def _spread(self, y: np.ndarray) -> Pair:
        """Return the change of the reference's inverse when y moves 2 roundings up and down.

        At the edge of its range (1 for a sigmoid) y may leave it: that side counts as 0.
        """
        step = 2.0 * self.eps * np.maximum(1.0, np.abs(y))
        return _change(self._references("inverse", [y - step, y, y + step]))

    def _spread_of_forward(self, x: np.ndarray) -> Pair:
        """Return the change of the reference's forward when x moves one rounding up and down."""
        step = self.eps * np.maximum(1.0, np.abs(x))
        points = [self.in_domain(at) for at in (x - step, x, x + step)]
        return _change(self._references("forward", points))

    def in_domain(self, x: np.ndarray) -> np.ndarray:
        """Return x, with numbers beyond the ends of the domain moved inside."""
        low, high = (np.float64(end) for end in self.case.domain)
        return np.clip(x, np.nextafter(low, high), np.nextafter(high, low))

    def _references(self, direction: str, points: list[np.ndarray]) -> list[Pair]:
        """Return the reference's pairs of several batches.

        They form one batch where its size is free, because a root finder's time depends on its
        number of calls.
        """
        if self.case.fixed_batch:
            return [self.reference(direction, at) for at in points]
        context = None if self.context is None else np.concatenate([self.context] * len(points))
        with np.errstate(all="ignore"):
            output, log_det = getattr(self.spec, direction)(np.concatenate(points), context)
        parts = (np.split(part, len(points)) for part in (output, log_det))
        return list(zip(*parts, strict=True))

    def _unit_of_x(self, at: Jacobian, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._unit(x, _magnitude(inverse_or_inf(at.matrix), y).reshape(x.shape))

    def _unit(self, value: np.ndarray, magnified: np.ndarray) -> np.ndarray:
        return self.eps * np.maximum(1.0, np.abs(value) + magnified)


def _change(pairs: list[Pair]) -> Pair:
    """Return the sum of the changes to the middle one of three pairs; infinite ones count as 0."""
    below, here, above = pairs
    with np.errstate(invalid="ignore"):
        first, second = (
            sum(np.nan_to_num(np.abs(m[i] - here[i]), posinf=0.0) for m in (below, above))
            for i in (0, 1)
        )
    return first, second


def _magnitude(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return sum_j |M_ij| max(1, |v_j|), for each example."""
    size = np.maximum(1.0, np.abs(vector.reshape(len(vector), -1)))
    with np.errstate(invalid="ignore"):
        return np.einsum("bij,bj->bi", np.abs(matrix), size)
