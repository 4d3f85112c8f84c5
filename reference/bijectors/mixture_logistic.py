"""Logit of a logistic mixture's CDF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.checks import check_broadcastable, check_components
from reference.bijectors.fields import set_field
from reference.bijectors.log_dets import sum_per_example
from reference.root_finding import Root, find_root

EPS = float(np.finfo(np.float64).eps)
LARGEST = float(np.finfo(np.float64).max)
EXP_RANGE = 700.0  # exp(+-700) is still a normal float64


@dataclass(frozen=True, eq=False)
class MixtureLogistic(Bijector):
    """y = logit F(x), F(x) = sum_k softmax(logits)_k sigmoid((x - means_k) exp(-log_scales_k)).

    Attributes:
        logits: log of the mixture weights up to a constant, broadcastable to (B, C, H, W, K).
        means: likewise.
        log_scales: likewise.

    Raises:
        ValueError: fields of unequal K, or not broadcastable to x.shape + (K,).

    Numerics: neither F nor 1 - F is ever formed and nothing is clamped: y and log dy/dx are
    finite wherever the true values can be represented, and NaN where x or a field is not finite.
    See `logit_cdf`. The inverse is found in logit space, between the roots of the single
    components.

    Source: Flow++ eqs. 17-19.
    """

    logits: Array
    means: Array
    log_scales: Array

    def __post_init__(self) -> None:
        names = ("logits", "means", "log_scales")
        check_components(self, **{name: set_field(self, name) for name in names})

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y, log_derivative = logit_cdf(x, *self._broadcast(x.shape))
        return y, sum_per_example(log_derivative)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return the x with logit F(x) = y, and minus the sum of log dy/dx there.

        Raises:
            RootFindingError: an x is out of float64's range.
        """
        x = self.solve(y).root
        return x, -sum_per_example(logit_cdf(x, *self._broadcast(y.shape))[1])

    def solve(self, y: Array) -> Root:
        """Find the inverse with its certificate: residual, bracket width, evaluations."""
        y = self.check_input(y, inverse=True)
        parameters = self._broadcast(y.shape)
        lower, upper = bracket(y, *parameters)
        flat = [p.reshape(-1, p.shape[-1]) for p in parameters]

        def function(x: Array, index: Array) -> Array:
            return logit_cdf(x, *(p[index] for p in flat))[0]

        return find_root(function, y, lower, upper)

    def check_fields(self, x: Array, owner: str) -> None:
        shape = (*x.shape, self.logits.shape[-1])
        for name in ("logits", "means", "log_scales"):
            check_broadcastable(getattr(self, name), shape, owner, name)

    def _broadcast(self, shape: tuple[int, ...]) -> list[Array]:
        """Return the fields, each broadcast to shape + (K,)."""
        to = (*shape, self.logits.shape[-1])
        return [np.broadcast_to(p, to) for p in (self.logits, self.means, self.log_scales)]


def logit_cdf(x: Array, logits: Array, means: Array, log_scales: Array) -> tuple[Array, Array]:
    """Compute y = log F(x) - log(1 - F(x)), and log dy/dx.

    Args:
        x: points, shape (...).
        logits: of the weights, shape (..., K).
        means: mu, shape (..., K).
        log_scales: s, shape (..., K).

    Returns:
        (y, log dy/dx), each of the shape of x; NaN where an input is not finite.

    With lw = log softmax(logits), z = (x - mu) e^-s, a = |z| and r = sigmoid(a), each component's
    sigmoid(z) is e^min(z,0) r and its 1 - sigmoid(z) is e^-max(z,0) r. Factoring the largest
    exponents, the "anchors",

        mF = max_k lw + min(z, 0)        mS = max_k lw - max(z, 0)

    out of the sums for F and 1 - F leaves sums SF and SS, both between 1/2 and K:

        y = (mF - mS) + log SF - log SS.
    """
    finite = np.isfinite(x)
    for parameter in (logits, means, log_scales):
        finite = finite & np.isfinite(parameter).all(axis=-1)
    x = np.where(finite, x, 0.0)
    logits, means, log_scales = (
        np.where(finite[..., None], p, 0.0) for p in (logits, means, log_scales)
    )

    z = standardize(x[..., None], means, log_scales)
    weights, log_weights = softmax(logits)

    # Where every |z| overflows, so does y; its slope is still the nearest component's.
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
    # number that cancels lw - a. Its two parts are subtracted first, each from the matching term,
    # before anything is rounded to their size. The rest is summed relative to its maximum.
    in_cdf = cdf.anchor <= survival.anchor
    log_weight = np.where(in_cdf, cdf.log_weight, survival.log_weight)[..., None]
    distance = -np.where(in_cdf, cdf.exponent, survival.exponent)[..., None]
    outer = np.maximum(cdf.anchor, survival.anchor)[..., None]
    terms = ((log_weights - log_weight) - (a - distance)) - outer - log_scales
    # A slope below e^-1e308 is 0: its top is -inf, and -inf - -inf would be NaN.
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
    """log sum_k e^{lw_k + q_k} r_k, in parts that must not be added too early.

    Attributes:
        log_weight: lw of the anchor, the component with the largest lw + q.
        exponent: its q.
        log_sum: log sum_k e^{(lw_k - lw) + (q_k - q)} r_k.
    """

    log_weight: Array
    exponent: Array
    log_sum: Array

    @property
    def anchor(self) -> Array:
        """Logarithm of the largest term without its factor r."""
        return self.log_weight + self.exponent


def _anchored_sum(log_weights: Array, exponents: Array, r: Array) -> _AnchoredSum:
    """Sum over the last axis relative to the largest term."""

    def pick(values: Array, component: Array) -> Array:
        return np.take_along_axis(values, component[..., None], axis=-1)

    # Rounding of lw + q may decide between nearly equal terms. Choose again relative to the first
    # choice, where the differences are small and exact.
    component = (log_weights + exponents).argmax(axis=-1)
    for _ in range(2):
        log_weight, exponent = pick(log_weights, component), pick(exponents, component)
        terms = (log_weights - log_weight) + (exponents - exponent)
        component = terms.argmax(axis=-1)
    log_sum = np.log((np.exp(terms) * r).sum(axis=-1))
    return _AnchoredSum(log_weight[..., 0], exponent[..., 0], log_sum)


def softmax(logits: Array) -> tuple[Array, Array]:
    """Compute softmax and log softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / total, shifted - np.log(total)


def standardize(x: Array, means: Array, log_scales: Array) -> Array:
    """Compute z = (x - mu) exp(-s): +-inf where it is too large for float64, never NaN."""
    # Overflow to infinity is the right limit; inf * 0 occurs only in a branch of `where` that is
    # not used.
    with np.errstate(over="ignore", invalid="ignore"):
        z = (x - means) * np.exp(-log_scales)
        # Where x - mu or exp(-s) alone is out of range, z need not be: half of each at a time.
        root = np.exp(-0.5 * log_scales)
        halved = (0.5 * x - 0.5 * means) * root * root * 2.0
        extreme = np.isinf(x - means) | (np.abs(log_scales) > EXP_RANGE)
        z = np.where(extreme, halved, z)
    return np.where(x == means, 0.0, z)


def nearest_component(x: Array, means: Array, log_scales: Array) -> Array:
    """Find the component with the smallest |z| without forming z."""
    with np.errstate(divide="ignore"):  # log 0 = -inf where x is a mean
        return (np.log(np.abs(0.5 * x - 0.5 * means)) - log_scales).argmin(axis=-1)


def bracket(y: Array, logits: Array, means: Array, log_scales: Array) -> tuple[Array, Array]:
    """Bracket the x with logit F(x) = y, whatever the weights.

    Component k alone reaches y at x_k = mu_k + e^{s_k} y. Left of all x_k every component's
    sigmoid is at most sigmoid(y), and so is their mean F; right of all x_k it is at least that.
    So the root lies between min_k x_k and max_k x_k. Both ends are moved outwards by a few
    roundings of x_k and of y.

    Returns:
        (lower, upper) of the shape of y; NaN where an input is not finite.
    """
    # Overflow means that a bracket end lies beyond float64; it is clipped to the largest number
    # below. 0 * inf occurs only where y is 0, which is handled separately.
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
