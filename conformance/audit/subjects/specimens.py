"""Published formulas with a known flaw, each otherwise correct.

All are written in NumPy from their mathematics, in float32 or float64, and each is an adapter:
`python -m conformance.audit --adapter conformance.audit.subjects.specimens:ClampedLogit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.adapter import Dtype, NotSupported
from conformance.audit.subjects.plain_sums import PlainSums, bisect, sigmoid
from reference.bijectors import MixtureLogistic
from reference.bijectors.mixture_logistic import logit_cdf

Bracket = tuple[np.ndarray, np.ndarray]


class Specimen:
    """Adapter whose MixtureLogistic has a flaw.

    Attributes:
        formula: Formula that it computes.
        flaw: Consequence of the flaw.
        caught_by: Findings that the audit must report.
    """

    formula = "y = log F - log(1 - F)"
    flaw = ""
    caught_by: tuple[str, ...] = ()

    def __init__(self, dtype: Dtype = "float64", device: str = "cpu") -> None:
        if device != "cpu":
            raise NotSupported(f"device must be cpu for a specimen, got {device}")
        self.dtype = dtype

    def build(self, spec: Any) -> FlawedMixture:
        """Build the flawed counterpart of a reference mixture."""
        if not isinstance(spec, MixtureLogistic):
            raise NotSupported(f"a specimen has only MixtureLogistic, got {type(spec).__name__}")
        return FlawedMixture(self, spec)

    def forward(self, s: PlainSums) -> tuple[np.ndarray, np.ndarray]:
        """Compute y and log dy/dx; by default the reference's, rounded to the dtype."""
        exact = (s.x, s.logits, s.means, s.log_scales)
        y, log_derivative = logit_cdf(*(a.astype(np.float64) for a in exact))
        return y.astype(self.dtype), log_derivative.astype(self.dtype)

    def backward(
        self, s: PlainSums, by_y: np.ndarray, by_l: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return gradients by log F and log(1 - F), by the chain rule through `forward`."""
        return by_y - by_l, -by_y - by_l

    def inverse(self, y: np.ndarray, sums: Callable[..., PlainSums], s: PlainSums) -> np.ndarray:
        """Compute x; by default by bisection of log F - log(1 - F) from the exact bracket."""
        return bisect(lambda x: _difference(sums(x)), y, *exact_bracket(y, s))


class LogitOfExp(Specimen):
    """y = logit(exp(log F)): F rounds to 1 where 1 - F is below eps, and exp loses digits of F."""

    formula = "p = exp(log F), y = log p - log(1 - p), l = log f - log p - log(1 - p)"
    flaw = "p rounds to 1 in the right tail: y is infinite, its gradient 0 or NaN"
    caught_by = ("non-finite", "value", "log-derivative", "gradient", "inverse")

    def _p(self, s: PlainSums) -> tuple[np.ndarray, np.ndarray]:
        """Return p, and where its gradient is not zero."""
        p = np.exp(s.log_cdf)
        return p, np.ones_like(p, dtype=bool)

    def forward(self, s: PlainSums) -> tuple[np.ndarray, np.ndarray]:
        p, _ = self._p(s)
        return np.log(p) - np.log(1 - p), s.log_density - np.log(p) - np.log(1 - p)

    def backward(
        self, s: PlainSums, by_y: np.ndarray, by_l: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        p, passes = self._p(s)
        by_p = (by_y - by_l) / p + (by_y + by_l) / (1 - p)
        by_log_cdf = np.where(passes, by_p, 0) * np.exp(s.log_cdf)
        return by_log_cdf, np.zeros_like(by_log_cdf)

    def target(self, y: np.ndarray) -> np.ndarray:
        """Return the p to solve for."""
        return sigmoid(y)

    def inverse(self, y: np.ndarray, sums: Callable[..., PlainSums], s: PlainSums) -> np.ndarray:
        return bisect(lambda x: np.exp(sums(x).log_cdf), self.target(y), *exact_bracket(y, s))


class ClampedLogit(LogitOfExp):
    """y = logit(clip(exp(log F), eps, 1 - eps)): finite, but constant in the tails."""

    eps = 1e-5
    formula = "p = clip(exp(log F), eps, 1 - eps), y = log p - log(1 - p), eps = 1e-5"
    flaw = "beyond |y| = log(1/eps) y is constant, its gradient 0, its log-derivative wrong"
    caught_by = ("value", "log-derivative", "gradient", "dead zone", "inverse")

    def _p(self, s: PlainSums) -> tuple[np.ndarray, np.ndarray]:
        p = np.exp(s.log_cdf)
        clipped = self._clip(p)
        return clipped, clipped == p

    def _clip(self, p: np.ndarray) -> np.ndarray:
        low, high = p.dtype.type(self.eps), p.dtype.type(1) - p.dtype.type(self.eps)
        return np.clip(p, low, high)

    def target(self, y: np.ndarray) -> np.ndarray:
        return self._clip(sigmoid(y))


class ThreeLogSumExps(Specimen):
    """Log-derivative as log f - log F - log(1 - F), from three plain log-sum-exps."""

    formula = "y = log F - log(1 - F), l = log f - log F - log(1 - F), plain log-sum-exps"
    flaw = "y is correct; in the far tail l is a small difference of large rounded numbers"
    caught_by = ("log-derivative", "log-derivative at extremes")

    def forward(self, s: PlainSums) -> tuple[np.ndarray, np.ndarray]:
        return _difference(s), s.log_density - s.log_cdf - s.log_survival


class GuessedBracket(Specimen):
    """Bisection of F from a bracket of means +- 20 sums of scales."""

    sums_of_scales = 20.0
    formula = "bisect F(x) = sigmoid(y) in [min mu - 20 sum e^s, max mu + 20 sum e^s]"
    flaw = "roots outside the bracket become its end; x is lost where F rounds to 1"
    caught_by = ("inverse",)

    def bracket(self, s: PlainSums) -> Bracket:
        """Return the bracket of the root."""
        reach = self.sums_of_scales * np.exp(s.log_scales).sum(-1)
        return s.means.min(-1) - reach, s.means.max(-1) + reach

    def inverse(self, y: np.ndarray, sums: Callable[..., PlainSums], s: PlainSums) -> np.ndarray:
        return bisect(lambda x: np.exp(sums(x).log_cdf), sigmoid(y), *self.bracket(s))


class FixedBracket(GuessedBracket):
    """Bisection of F from +-1000 for every mixture."""

    formula = "bisect F(x) = sigmoid(y) in [-1000, 1000]"
    flaw = "roots beyond 1000 become 1000; x is lost where F rounds to 1"

    def bracket(self, s: PlainSums) -> Bracket:
        end = np.full_like(s.x, 1e3)
        return -end, end


class ClippedInverse(Specimen):
    """Unclamped forward pass, but an inverse that clips its target CDF to [1e-5, 1 - 1e-5]."""

    eps = 1e-5
    formula = "bisect F(x) = clip(sigmoid(y), 1e-5, 1 - 1e-5) from the exact bracket"
    flaw = "for |y| > 11.5 it returns the x of |y| = 11.5"
    caught_by = ("inverse",)

    def inverse(self, y: np.ndarray, sums: Callable[..., PlainSums], s: PlainSums) -> np.ndarray:
        one = y.dtype.type(1)
        p = np.clip(sigmoid(y), one * y.dtype.type(self.eps), one - y.dtype.type(self.eps))
        return bisect(lambda x: np.exp(sums(x).log_cdf), p, *exact_bracket(y, s))


SPECIMENS: tuple[type[Specimen], ...] = (
    LogitOfExp,
    ClampedLogit,
    ThreeLogSumExps,
    GuessedBracket,
    FixedBracket,
    ClippedInverse,
)


def clamped_at(size: float) -> type[ClampedLogit]:
    """Return the clamped logit with another eps."""
    return type("ClampedLogit", (ClampedLogit,), {"eps": size})


def exact_bracket(y: np.ndarray, s: PlainSums) -> Bracket:
    """Return the range of the components' own roots, mu_k + y e^{s_k}."""
    roots = s.means + y[..., None] * np.exp(s.log_scales)
    return roots.min(-1), roots.max(-1)


def _difference(s: PlainSums) -> np.ndarray:
    return s.log_cdf - s.log_survival


class FlawedMixture:
    """Mixture of a specimen, with the methods of a bijector; see `conformance.adapter`."""

    def __init__(self, specimen: Specimen, spec: MixtureLogistic) -> None:
        self._specimen = specimen
        self._fields = {
            name: np.asarray(getattr(spec, name)).astype(specimen.dtype)
            for name in ("logits", "means", "log_scales")
        }

    def forward(
        self, x: np.ndarray, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            y, log_derivative = self._specimen.forward(self._sums(x))
        return y, _per_example(log_derivative)

    def inverse(
        self, y: np.ndarray, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            x = self._specimen.inverse(y, self._sums, self._sums(y))
            _, log_derivative = self._specimen.forward(self._sums(x))
        return x, -_per_example(log_derivative)

    def vjp(
        self,
        x: np.ndarray,
        context: np.ndarray | None,
        grad_y: np.ndarray,
        grad_log_det: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Return the gradient of sum(grad_y * y) + sum(grad_log_det * log_det)."""
        by_l = np.broadcast_to(grad_log_det.reshape(-1, 1, 1, 1), x.shape)
        with np.errstate(all="ignore"):
            sums = self._sums(x)
            by_cdf, by_survival = self._specimen.backward(sums, grad_y, by_l)
            found = sums.gradients(by_cdf, by_survival, by_l)
        return {
            name: _reduced(gradient, self._fields[name].shape) if name != "x" else gradient
            for name, gradient in found.items()
        }

    def _sums(self, x: np.ndarray) -> PlainSums:
        shape = (*x.shape, max(field.shape[-1] for field in self._fields.values()))
        return PlainSums(x, *(np.broadcast_to(f, shape) for f in self._fields.values()))


def _per_example(values: np.ndarray) -> np.ndarray:
    return values.sum(axis=tuple(range(1, values.ndim)))


def _reduced(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which its array was broadcast."""
    shape_in_full = (1,) * (gradient.ndim - len(shape)) + shape
    axes = tuple(
        i for i, (a, b) in enumerate(zip(gradient.shape, shape_in_full, strict=True)) if a != b
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)
