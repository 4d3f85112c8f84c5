"""The mixture-of-logistics coupling transform, in logit space: the heart of Flow++."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_broadcasts, set_array, sum_per_example
from reference.root_finding import Root, find_root

EPS = float(np.finfo(np.float64).eps)
LARGEST = float(np.finfo(np.float64).max)
EXP_RANGE = 700.0  # exp(+-700) is still an ordinary float64


@dataclass(frozen=True, eq=False)
class MixtureLogistic(Bijector):
    """y = logit F(x), F(x) = sum_k pi_k sigmoid((x - mu_k) exp(-s_k)), pi = softmax(logits).

    Attributes:
        logits: of the mixture weights pi, broadcastable to (B, C, H, W, K).
        means: mu, likewise.
        log_scales: s, likewise.

    Section 3.2.1 of the paper (the affine map that follows there is a bijector of its own).
    Where x or a parameter is not finite the result is NaN.

    Numerics: neither F nor 1 - F is ever formed, and nothing is clamped: y and log dy/dx are
    finite wherever the true values can be represented. See `logit_cdf`. The inverse is found in
    logit space, between the roots of the single components.

    Raises:
        ValueError: if the fields have not the same K, or cannot be broadcast to the input.
    """

    logits: np.ndarray
    means: np.ndarray
    log_scales: np.ndarray

    def __post_init__(self) -> None:
        fields = [set_array(self, name) for name in ("logits", "means", "log_scales")]
        shapes = [field.shape for field in fields]
        components = {shape[-1] if shape else None for shape in shapes}
        if len(components) != 1 or components & {None, 0}:
            raise ValueError(
                "MixtureLogistic needs logits, means and log_scales with the same number of "
                f"components on their last axis, got shapes {', '.join(map(str, shapes))}"
            )

    def _parameters(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """The fields, each broadcast to shape + (K,)."""
        to = (*shape, self.logits.shape[-1])
        for name in ("logits", "means", "log_scales"):
            check_broadcasts(self, name, getattr(self, name).shape, to)
        return [np.broadcast_to(p, to) for p in (self.logits, self.means, self.log_scales)]

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(logit F(x), sum of log dy/dx)."""
        x = as_images(x, self)
        y, log_derivative = logit_cdf(x, *self._parameters(x.shape))
        return y, sum_per_example(log_derivative)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The x with logit F(x) = y: (x, minus the sum of log dy/dx there).

        Raises:
            RootFindingError: if some x cannot be found (where it is out of float64's range).
        """
        y = as_images(y, self)
        x = self.solve(y).root
        return x, -sum_per_example(logit_cdf(x, *self._parameters(y.shape))[1])

    def solve(self, y: ArrayLike) -> Root:
        """The inverse's root with its certificate: residual, bracket width, evaluations."""
        y = as_images(y, self)
        parameters = self._parameters(y.shape)
        lower, upper = bracket(y, *parameters)
        flat = [p.reshape(-1, p.shape[-1]) for p in parameters]

        def function(x: np.ndarray, index: np.ndarray) -> np.ndarray:
            return logit_cdf(x, *(p[index] for p in flat))[0]

        return find_root(function, y, lower, upper)


def logit_cdf(
    x: np.ndarray, logits: np.ndarray, means: np.ndarray, log_scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute y = log F(x) - log(1 - F(x)), and log dy/dx.

    Args:
        x: points, shape (...).
        logits: of the weights, shape (..., K).
        means: mu, shape (..., K).
        log_scales: s, shape (..., K).

    Returns:
        (y, log dy/dx), each of the shape of x; NaN where an input is not finite.

    With lw = log softmax(logits), z = (x - mu) e^-s, a = |z| and r = sigmoid(a), each component's
    sigmoid(z) is e^min(z,0) r and its 1 - sigmoid(z) is e^-max(z,0) r. The largest exponents,
    the "anchors",

        mF = max_k lw + min(z, 0)        mS = max_k lw - max(z, 0)

    leave the sums for F and 1 - F, of which SA and SB, both between 1/2 and K, remain:

        y = (mF - mS) + log SA - log SB.
    """
    finite = np.isfinite(x)
    for parameter in (logits, means, log_scales):
        finite = finite & np.isfinite(parameter).all(axis=-1)
    x = np.where(finite, x, 0.0)
    logits, means, log_scales = (
        np.where(finite[..., None], p, 0.0) for p in (logits, means, log_scales)
    )

    z = standardized(x[..., None], means, log_scales)
    weights, log_weights = softmax(logits)

    # Where every |z| overflows, so does y. Its slope is still that of the nearest component.
    overflow = np.isinf(z).all(axis=-1) & (np.ptp(np.sign(z), axis=-1) == 0)
    sign = np.sign(z[..., 0])
    z = np.where(overflow[..., None], 0.0, z)

    a = np.abs(z)
    r = 1.0 / (1.0 + np.exp(-a))
    cdf = _anchored_sum(log_weights, np.minimum(z, 0.0), r)
    survival = _anchored_sum(log_weights, -np.maximum(z, 0.0), r)
    y = (cdf.anchor - survival.anchor) + cdf.log_sum - survival.log_sum

    # Near the median the two logarithms cancel. There, with T = 2 F - 1, y = 2 atanh(T).
    t = (weights * np.tanh(0.5 * z)).sum(axis=-1)
    near = np.abs(t) < 0.5
    y = np.where(near, 2.0 * np.arctanh(np.where(near, t, 0.0)), y)

    # log f - log F - log(1 - F). In a tail the anchor of the smaller of F and 1 - F is a large
    # number that cancels lw - a: its two parts leave first, each from the like, before anything
    # is rounded to their size. What is left is summed with its own maximum taken out.
    in_cdf = cdf.anchor <= survival.anchor
    log_weight = np.where(in_cdf, cdf.log_weight, survival.log_weight)[..., None]
    distance = -np.where(in_cdf, cdf.exponent, survival.exponent)[..., None]
    outer = np.maximum(cdf.anchor, survival.anchor)[..., None]
    terms = ((log_weights - log_weight) - (a - distance)) - outer - log_scales
    # A slope below e^-1e308 is 0: its top is -inf, which must not be subtracted from itself.
    top = np.maximum(terms.max(axis=-1), -LARGEST)
    with np.errstate(divide="ignore"):  # log 0 = -inf for such a slope
        log_sum = np.log((np.exp(terms - top[..., None]) * (r * r)).sum(axis=-1))
    log_derivative = top + (log_sum - cdf.log_sum - survival.log_sum)

    if overflow.any():
        y = np.where(overflow, sign * np.inf, y)
        nearest = nearest_component(x[..., None], means, log_scales)
        slope = -np.take_along_axis(log_scales, nearest[..., None], axis=-1)[..., 0]
        log_derivative = np.where(overflow, slope, log_derivative)
    return np.where(finite, y, np.nan), np.where(finite, log_derivative, np.nan)


@dataclass(frozen=True, eq=False)
class _AnchoredSum:
    """log sum_k e^{lw_k + q_k} r_k, in parts that must not be rounded together too early.

    Attributes:
        log_weight: lw of the anchor, the component with the largest lw + q.
        exponent: its q.
        log_sum: log sum_k e^{(lw_k - lw) + (q_k - q)} r_k.
    """

    log_weight: np.ndarray
    exponent: np.ndarray
    log_sum: np.ndarray

    @property
    def anchor(self) -> np.ndarray:
        """The logarithm of the largest term, but for its r."""
        return self.log_weight + self.exponent


def _anchored_sum(log_weights: np.ndarray, exponents: np.ndarray, r: np.ndarray) -> _AnchoredSum:
    """The sum over the last axis, taken relative to its largest term."""

    def of(values: np.ndarray, component: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, component[..., None], axis=-1)

    # lw + q is rounded to its own size, and may choose among near equals by rounding alone. Look
    # again relative to the first choice, where near equals differ by small numbers.
    component = (log_weights + exponents).argmax(axis=-1)
    for _ in range(2):
        log_weight, exponent = of(log_weights, component), of(exponents, component)
        terms = (log_weights - log_weight) + (exponents - exponent)
        component = terms.argmax(axis=-1)
    log_sum = np.log((np.exp(terms) * r).sum(axis=-1))
    return _AnchoredSum(log_weight[..., 0], exponent[..., 0], log_sum)


def softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax and log softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / total, shifted - np.log(total)


def standardized(x: np.ndarray, means: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
    """Standardize: z = (x - mu) exp(-s), +-inf where it is too large for float64, never NaN."""
    # Overflow to infinity is the right limit here; inf * 0 occurs only in the branch of the
    # `where`s that is not taken.
    with np.errstate(over="ignore", invalid="ignore"):
        z = (x - means) * np.exp(-log_scales)
        # Where x - mu or exp(-s) alone is out of range, z need not be: half of each at a time.
        root = np.exp(-0.5 * log_scales)
        halved = (0.5 * x - 0.5 * means) * root * root * 2.0
        extreme = np.isinf(x - means) | (np.abs(log_scales) > EXP_RANGE)
        z = np.where(extreme, halved, z)
    return np.where(x == means, 0.0, z)


def nearest_component(x: np.ndarray, means: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
    """The component with the smallest |z|, found without forming z."""
    with np.errstate(divide="ignore"):  # log 0 where x is a mean: the nearest there is
        return (np.log(np.abs(0.5 * x - 0.5 * means)) - log_scales).argmin(axis=-1)


def bracket(
    y: np.ndarray, logits: np.ndarray, means: np.ndarray, log_scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An interval that holds the x with logit F(x) = y, whatever the weights.

    Component k alone reaches y at x_k = mu_k + e^{s_k} y. Left of all x_k every component's
    sigmoid is at most sigmoid(y), and so is their mean F; right of all, at least. The root lies
    between min_k x_k and max_k x_k. Both are moved out by a few roundings of x_k and of y.

    Returns:
        (lower, upper) of the shape of y; NaN where an input is not finite.
    """
    # Overflow means that the end of the bracket lies beyond float64, and it is cut to the largest
    # number below; 0 * inf occurs only where y is 0, a case of its own.
    with np.errstate(over="ignore", invalid="ignore"):
        root = np.exp(0.5 * log_scales)
        wide = np.abs(log_scales) > EXP_RANGE
        factors = (np.where(wide, root, np.exp(log_scales)), np.where(wide, root, 1.0))
        target = y[..., None]
        step = np.where(target == 0.0, 0.0, target * factors[0] * factors[1])
        unit = np.maximum(np.abs(target), 1.0) * factors[0] * factors[1]
        slack = 8.0 * EPS * (np.abs(means) + unit)
        lower = (means + step - slack).min(axis=-1)
        upper = (means + step + slack).max(axis=-1)
    finite = np.isfinite(y)
    for parameter in (logits, means, log_scales):
        finite = finite & np.isfinite(parameter).all(axis=-1)
    lower = np.where(np.isnan(lower), -np.inf, lower)  # inf - inf: no bound on this side
    upper = np.where(np.isnan(upper), np.inf, upper)
    return (
        np.where(finite, np.clip(lower, -LARGEST, LARGEST), np.nan),
        np.where(finite, np.clip(upper, -LARGEST, LARGEST), np.nan),
    )
