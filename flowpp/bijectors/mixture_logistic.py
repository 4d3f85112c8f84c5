"""Logit of a logistic mixture's CDF."""

from __future__ import annotations

from torch import Tensor

from ..kernels.mixture_logistic import inverse_logit_cdf, logit_cdf
from .bijector import Bijector
from .checks import check_components
from .fields import set_field
from .log_dets import sum_per_example


class MixtureLogistic(Bijector):
    """y = logit F(x), F(x) = sum_k softmax(logits)_k sigmoid((x - means_k) exp(-log_scales_k)).

    Args:
        logits: log of the mixture weights up to a constant, broadcastable to `(B, C, H, W, K)`.
        means: likewise.
        log_scales: likewise.

    Raises:
        ValueError: fields of unequal K, or not broadcastable to `x.shape + (K,)`.

    Numerics: neither F nor 1 - F is ever formed and nothing is clamped: y is finite wherever the
    true value can be represented. See `flowpp.kernels.mixture_formulas`.

    Source: Flow++ eqs. 17-19.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor

    def __init__(self, logits: Tensor, means: Tensor, log_scales: Tensor) -> None:
        super().__init__()
        check_components(self, logits=logits, means=means, log_scales=log_scales)
        set_field(self, "logits", logits)
        set_field(self, "means", means)
        set_field(self, "log_scales", log_scales)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return mixture_logistic(x, self.logits, self.means, self.log_scales)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return mixture_logistic_inverse(y, self.logits, self.means, self.log_scales)


def mixture_logistic(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `MixtureLogistic.forward` of these fields."""
    y, log_derivative = logit_cdf(x, logits, means, log_scales)
    return y, sum_per_example(log_derivative)


def mixture_logistic_inverse(
    y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `MixtureLogistic.inverse` of these fields."""
    x = inverse_logit_cdf(y, logits, means, log_scales)
    _, log_derivative = logit_cdf(x, logits, means, log_scales)
    return x, -sum_per_example(log_derivative)
