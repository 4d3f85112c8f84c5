"""A bijector case at one dtype and one set of inputs, with what several laws share.

Everything is computed when first asked for and kept: the spec with its arrays rounded to the
dtype, the inputs, the reference's answers, the implementation, the finite differences, and the
units that know the conditioning.

Units. A number handed in or out is rounded to the dtype, and the map stretches that rounding. With
J = dy/dx of the reference and A = J^-1, what rounding alone can do is, to first order,

    to x found from y         u_i = eps max(1, |x_i| + sum_j |A_ij| max(1, |y_j|))
    to y found from x         u_i = eps max(1, |y_i| + sum_j |J_ij| max(1, |x_j|))
    to log_det along x or y   u   = eps max(1, |l| + sum_j |dl/dx_j| u_j / eps)

and for what is found from y no less than what the reference's own answer changes by when y moves
2 roundings up and down, since on a plateau first order says too little. So an error there, where
the quantile is ill-conditioned, is not blamed on the implementation; a clamp is, because it errs
where the map is well conditioned.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np

from conformance.adapter import Adapter, NotSupported
from conformance.numerics.jacobian import Interval, Jacobian, inverse_or_inf, jacobian
from conformance.numerics.specs import round_to, rounded

HALVINGS = 32
"""A margin that is not kept by then is not kept at zero either."""

Inputs = Literal["typical", "tails"]
Pair = tuple[np.ndarray, np.ndarray]


class Violation(AssertionError):
    """A law does not hold, in a way that has no size in ulps; the message says how."""


class LeftOut(Exception):
    """The law has nothing to say about this case; the message says why."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator that depends on the seed and the names alone, on every machine."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


class Trial:
    """One case, adapter, dtype, set of inputs and seed. See the module for the units."""

    def __init__(
        self,
        case: Any,
        adapter: type[Adapter],
        dtype: str,
        inputs: Inputs,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.case, self.dtype, self.inputs, self.seed = case, np.dtype(dtype), inputs, seed
        self._adapter, self._device = adapter, device
        self.eps = float(np.finfo(dtype).eps)
        self._kept: dict[Any, Any] = {}

    def kept(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What a law computes and another one asks for again."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def rng(self, purpose: str) -> np.random.Generator:
        return generator(self.seed, self.case.name, purpose)

    # What is asked

    @cached_property
    def spec(self) -> Any:
        return rounded(self.case.build(self.rng("spec")), self.dtype)

    @cached_property
    def x(self) -> np.ndarray:
        x = round_to(getattr(self.case, self.inputs)(self.rng(self.inputs)), self.dtype)
        low, high = (
            end + sign * self.case.margin
            for end, sign in zip(self.case.image, (1, -1), strict=True)
        )
        for _ in range(HALVINGS if self.case.margin else 0):
            y = self.reference("forward", x)[0]
            far = ((y < low) | (y > high)).any(axis=(1, 2, 3))
            if not far.any():
                break
            x[far] /= 2
        return x

    @cached_property
    def context(self) -> np.ndarray | None:
        if self.case.context is None:
            return None
        return round_to(self.case.context(self.rng("context")), self.dtype)

    @cached_property
    def y(self) -> np.ndarray:
        """Where the inverse is tried: the case's noise, or else the image of `x`.

        An image that rounding puts at an end of the open interval has no inverse: its neighbour
        inside is taken.
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

    # The truth

    @cached_property
    def want_forward(self) -> Pair:
        return self.reference("forward", self.x)

    @cached_property
    def want_inverse(self) -> Pair:
        return self.reference("inverse", self.y)

    def reference(self, direction: str, x: np.ndarray) -> Pair:
        with np.errstate(all="ignore"):
            return getattr(self.spec, direction)(x, self.context)

    # The implementation

    @cached_property
    def given_spec(self) -> Any:
        """The copy of the spec that the implementation was built from."""
        return rounded(self.spec, self.dtype)

    @cached_property
    def built(self) -> Any:
        return self._adapter(dtype=self.dtype.name, device=self._device).build(self.given_spec)

    def built_anew(self) -> Any:
        """Another one of the same."""
        spec = rounded(self.spec, self.dtype)
        return self._adapter(dtype=self.dtype.name, device=self._device).build(spec)

    def forward(self, x: np.ndarray, context: np.ndarray | None = None) -> Pair:
        """The implementation at `x`, in its dtype."""
        return self._call("forward", x, context)

    def inverse(self, y: np.ndarray, context: np.ndarray | None = None) -> Pair:
        return self._call("inverse", y, context)

    @cached_property
    def got_forward(self) -> Pair:
        return self.forward(self.x, self.context)

    @cached_property
    def got_inverse(self) -> Pair:
        return self.inverse(self.y, self.context)

    def optional(self, method: str) -> Callable:
        """A method that an implementation may leave out.

        Raises:
            NotSupported: it has.
        """
        found = getattr(self.built, method, None)
        if found is None:
            raise NotSupported(f"the implementation has no {method}")
        return found

    def cast(self, x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else np.array(x, self.dtype)

    def _call(self, direction: str, x: np.ndarray, context: np.ndarray | None) -> Pair:
        return self.answer(direction, self.cast(x), self.cast(context))

    def answer(self, direction: str, x: Any, context: Any) -> Pair:
        """The implementation's (array, log_det) for these arrays, handed in as they are.

        Raises:
            Violation: it is no such pair.
        """
        result = getattr(self.built, direction)(x, context)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise Violation(f"{direction} returned {type(result).__name__}, not (array, log_det)")
        output, log_det = (np.asarray(part) for part in result)
        if log_det.shape != (len(x),):
            raise Violation(f"log_det of {direction} has shape {log_det.shape}, not ({len(x)},)")
        return output, log_det

    # Finite differences

    @cached_property
    def at_x(self) -> Jacobian:
        """Of the reference's forward map at `x`."""
        return self._differences(self.spec.forward, self.x, self.case.domain)

    @cached_property
    def at_inverse(self) -> Jacobian:
        """Of the reference's forward map at the truth for the inverse of `y`."""
        return self._differences(self.spec.forward, self.want_inverse[0], self.case.domain)

    def differences_of_forward(self) -> Jacobian:
        """Of the implementation's forward map at `x`."""
        return self._differences(self.forward, self.x, self.case.domain)

    def differences_of_inverse(self) -> Jacobian:
        """Of the implementation's inverse map at `y`."""
        x_unit, log_det_unit = self.unit_of_inverse, self.unit_of_inverse_log_det
        noise = np.concatenate([x_unit.reshape(len(x_unit), -1), log_det_unit[:, None]], axis=1)
        return self._differences(self.inverse, self.y, self.case.image, noise)

    def _differences(
        self, side: Callable, x: np.ndarray, domain: Interval, noise: np.ndarray | None = None
    ) -> Jacobian:
        fixed = self.case.fixed_batch
        return jacobian(side, x, self.context, fixed_batch=fixed, noise=noise, domain=domain)

    # Units

    @cached_property
    def unit_of_return(self) -> np.ndarray:
        """Of x, come back through y = forward(x)."""
        y = self.want_forward[0]
        unit = self._unit_of_x(self.at_x, self.x, y)
        return np.maximum(unit, self._spread(y)[0])

    @cached_property
    def unit_of_inverse(self) -> np.ndarray:
        """Of x found from `y`."""
        unit = self._unit_of_x(self.at_inverse, self.want_inverse[0], self.y)
        return np.maximum(unit, self._spread_at_y[0])

    @cached_property
    def unit_of_image(self) -> np.ndarray:
        """Of y, come back through x = inverse(y)."""
        magnitude = _magnitude(self.at_inverse.matrix, self.want_inverse[0])
        return self._unit(self.y, magnitude.reshape(self.y.shape))

    @cached_property
    def unit_of_inverse_log_det(self) -> np.ndarray:
        """Of the inverse's log-det at `y`: it is evaluated at an x known to its unit."""
        slope = np.abs(np.nan_to_num(self.at_inverse.log_det_gradient))
        flat = self.unit_of_inverse.reshape(len(slope), -1) / self.eps
        with np.errstate(invalid="ignore"):  # flat where the gradient is 0 and x has no meaning
            moved = np.where(slope == 0, 0.0, slope * flat).sum(axis=1)
        return np.maximum(self._unit(self.want_inverse[1], moved), self._spread_at_y[1])

    @cached_property
    def _spread_at_y(self) -> Pair:
        return self._spread(self.y)

    def _spread(self, y: np.ndarray) -> Pair:
        """How far the reference's inverse moves with y by 2 roundings, up and down.

        A y at the edge of its range (1 for a sigmoid) may leave it: that side counts as 0.
        """
        step = 2.0 * self.eps * np.maximum(1.0, np.abs(y))
        below, here, above = self._inverses([y - step, y, y + step])
        x, log_det = (
            sum(np.nan_to_num(np.abs(m[i] - here[i]), posinf=0.0) for m in (below, above))
            for i in (0, 1)
        )
        return x, log_det

    def _inverses(self, points: list[np.ndarray]) -> list[Pair]:
        """The reference's inverse of several batches.

        As one batch where its size is free: a root finder's time is that of its calls.
        """
        if self.case.fixed_batch:
            return [self.reference("inverse", y) for y in points]
        context = None if self.context is None else np.concatenate([self.context] * len(points))
        with np.errstate(all="ignore"):
            x, log_det = self.spec.inverse(np.concatenate(points), context)
        parts = (np.split(part, len(points)) for part in (x, log_det))
        return list(zip(*parts, strict=True))

    def _unit_of_x(self, at: Jacobian, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._unit(x, _magnitude(inverse_or_inf(at.matrix), y).reshape(x.shape))

    def _unit(self, value: np.ndarray, stretched: np.ndarray) -> np.ndarray:
        return self.eps * np.maximum(1.0, np.abs(value) + stretched)


def _magnitude(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """sum_j |M_ij| max(1, |v_j|), for each example."""
    size = np.maximum(1.0, np.abs(vector.reshape(len(vector), -1)))
    with np.errstate(invalid="ignore"):
        return np.einsum("bij,bj->bi", np.abs(matrix), size)
