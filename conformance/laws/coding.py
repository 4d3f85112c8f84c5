"""The law that an implementation's density is the length of a code that can be decoded.

Points are coded by local bits-back coding with the implementation's two maps and its claimed
log-determinant: with f towards the noise and sigma a small number,

    pop  z ~ N(f(x), sigma^2 J J^T),    push  x ~ N(f^-1(z), sigma^2 I),    push  z ~ N(0, I),

where J has the claimed determinant, and the shape of the reference's Jacobian. Where the claim is
right, x - f^-1(z) is as large as it is pushed with, and the code has -log2 p(x) bits, in units of
the bins. If J is too large by a factor r in D dimensions, it has D (r^2 - 1) / (2 ln 2) more.

Source: Ho, Lohn and Abbeel 2019, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.normalization import call
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison
from conformance.numerics.quadrature import Density
from conformance.numerics.specs import round_to
from reference.coding.stack import CodingError, Normal, Stack, normals, pop_all, push_all

POINTS = 10
SIGMA = 16.0
"""Standard deviation of the noise, in bins."""
WIDTHS = {"float64": 2.0**-17, "float32": 2.0**-15}
"""Width of a bin: with float32, numbers must be exact to much less than sigma bins."""
SLACK = 0.02
"""Bits of a point: curvature within a few sigma, and rounding to bins."""
FARTHEST = 1.0
"""Points are images of noise within this distance: farther out, intervals end within sigma."""
STEP = 2.0**-17
"""Step of the finite differences of the reference, in float64."""
INITIAL_BITS = 64 * 4 * POINTS


def coding(trial: Trial) -> Findings:
    """Points are decoded exactly, from -log2 p(x) bits: by the density that is claimed."""
    for density in trial.case.densities:
        coder = _Coder(trial, density)
        numbers = _points(trial, density)
        start = 1 << INITIAL_BITS | int.from_bytes(
            trial.rng("bits").bytes(INITIAL_BITS // 8), "big"
        )
        stack = Stack(start)
        try:
            claimed = coder.encode(stack, numbers)
            length = stack.bits - Stack(start).bits
            decoded = coder.decode(stack, numbers.shape)
        except CodingError as error:
            raise Violation(f"a point cannot be coded: {error}") from error
        if (decoded != numbers).any() or stack.state != start:
            raise Violation("the decoded points are others than the encoded ones")
        distance = abs(length - claimed) / POINTS
        yield (
            f"bits of a point, with the density by {density.direction}",
            Comparison(distance / SLACK, (), length / POINTS, claimed / POINTS, SLACK),
        )


@dataclass(frozen=True)
class _Coder:
    """Codes a batch of points, known by the numbers of their bins."""

    trial: Trial
    density: Density

    @property
    def width(self) -> float:
        """Width of a bin."""
        return WIDTHS[self.trial.dtype.name]

    def encode(self, stack: Stack, numbers: np.ndarray) -> float:
        """Push points (n, D); return the claimed bits of all, -log2 p(x) + log2 of the bins."""
        points = self._points(numbers)
        noise, log_det = self._to_noise(points)
        z = self._pop_noise(stack, noise, self._factors(points, log_det))
        push_all(stack, numbers, normals(self._mean(z), np.array(SIGMA)))
        push_all(stack, z, _prior(z.shape, self.width))
        log_normal = -0.5 * (
            (_values(z, self.width) ** 2).sum(axis=1) + z.shape[1] * np.log(2.0 * np.pi)
        )
        bits = -(log_normal + log_det).sum() / np.log(2.0)
        return float(bits) - z.size * np.log2(self.width)

    def decode(self, stack: Stack, shape: tuple[int, ...]) -> np.ndarray:
        """Pop points, and restore the stack."""
        z = pop_all(stack, _prior(shape, self.width), shape)
        numbers = pop_all(stack, normals(self._mean(z), np.array(SIGMA)), shape)
        points = self._points(numbers)
        noise, log_det = self._to_noise(points)
        self._push_noise(stack, z, noise, self._factors(points, log_det))
        return numbers

    def _points(self, numbers: np.ndarray) -> np.ndarray:
        return round_to(_values(numbers, self.width), self.trial.dtype).astype(np.float64)

    def _to_noise(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise, log_det = call(self.trial, self.density.direction, points)
        noise = noise.reshape(points.shape).astype(np.float64)
        log_det = log_det.astype(np.float64)
        if not (np.isfinite(noise).all() and np.isfinite(log_det).all()):
            raise Violation("a point's noise or log_det is not finite")
        return noise, log_det

    def _mean(self, z: np.ndarray) -> np.ndarray:
        """Return f^-1(z) in bins."""
        noise = round_to(_values(z, self.width), self.trial.dtype).astype(np.float64)
        points = call(self.trial, self.density.opposite, noise)[0]
        return points.reshape(z.shape).astype(np.float64) / self.width - 0.5

    def _factors(self, points: np.ndarray, log_det: np.ndarray) -> np.ndarray:
        """Return L with L L^T = J J^T for each point, J being of the claimed determinant."""
        dimensions = points.shape[1]
        columns = []
        for axis in range(dimensions):
            step = STEP * np.eye(dimensions)[axis]
            ends = [self._reference(points + sign * step) for sign in (1.0, -1.0)]
            columns.append((ends[0] - ends[1]) / (2.0 * STEP))
        shape = np.stack(columns, axis=2)
        size = np.exp(np.clip((log_det - np.linalg.slogdet(shape)[1]) / dimensions, -20.0, 20.0))
        matrix = shape * size[:, None, None]
        return np.linalg.cholesky(matrix @ matrix.swapaxes(1, 2))

    def _reference(self, points: np.ndarray) -> np.ndarray:
        shape = self.trial.x.shape[1:]
        if self.density.direction == "inverse":
            shape = self.trial.want_forward[0].shape[1:]
        context = self.trial.context
        if context is not None:
            context = np.repeat(context[:1], len(points), axis=0)
        map_ = getattr(self.trial.spec, self.density.direction)
        return map_(points.reshape(len(points), *shape), context)[0].reshape(points.shape)

    def _pop_noise(self, stack: Stack, mean: np.ndarray, factors: np.ndarray) -> np.ndarray:
        z = np.zeros(mean.shape, dtype=np.int64)
        for axis in range(mean.shape[1]):
            z[:, axis] = pop_all(stack, self._given(z, mean, factors, axis), (len(z),))
        return z

    def _push_noise(
        self, stack: Stack, z: np.ndarray, mean: np.ndarray, factors: np.ndarray
    ) -> None:
        for axis in reversed(range(mean.shape[1])):
            push_all(stack, z[:, axis], self._given(z, mean, factors, axis))

    def _given(
        self, z: np.ndarray, mean: np.ndarray, factors: np.ndarray, axis: int
    ) -> list[Normal]:
        """Return the distribution of an axis of N(mean, sigma^2 L L^T), given those before it."""
        shift = np.zeros(len(z))
        if axis:
            before = (_values(z, self.width) - mean)[:, :axis, None]
            known = np.linalg.solve(factors[:, :axis, :axis], before)
            shift = (factors[:, axis, None, :axis] @ known)[:, 0, 0]
        centre = (mean[:, axis] + shift) / self.width - 0.5
        return normals(centre, SIGMA * factors[:, axis, axis])


def _values(numbers: np.ndarray, width: float) -> np.ndarray:
    return (numbers + 0.5) * width


def _prior(shape: tuple[int, ...], width: float) -> list[Normal]:
    return normals(np.full(shape, -0.5), np.array(1.0 / width))


def _points(trial: Trial, density: Density) -> np.ndarray:
    """Return bins of images of noise, (n, D)."""
    noise = trial.rng("coding").standard_normal((POINTS, trial.x[0].size))
    noise = np.clip(noise, -FARTHEST, FARTHEST)
    shape = trial.x.shape[1:]
    if density.direction == "forward":
        shape = trial.want_forward[0].shape[1:]
    context = trial.context
    if context is not None:
        context = np.repeat(context[:1], POINTS, axis=0)
    map_ = getattr(trial.spec, density.opposite)
    points = map_(noise.reshape(POINTS, *shape), context)[0].reshape(POINTS, -1)
    return np.floor(points / WIDTHS[trial.dtype.name]).astype(np.int64)
