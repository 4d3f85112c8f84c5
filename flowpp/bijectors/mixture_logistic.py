"""Logit of a logistic mixture's CDF."""

from __future__ import annotations

from torch import Tensor

from ..kernels.mixture_logistic import inverse_logit_cdf, logit_cdf
from . import Bijector
from .checks import check_components, check_images, hold, sum_per_example


class MixtureLogistic(Bijector):
    """y = logit F(x), F(x) = sum_k softmax(logits)_k sigmoid((x - means_k) exp(-log_scales_k)).

    Args:
        logits: log of the mixture weights up to a constant, broadcastable to `(B, C, H, W, K)`.
        means: likewise.
        log_scales: likewise.

    Raises:
        ValueError: parameters that have not the same K, or do not broadcast to `x.shape + (K,)`.

    Numerics: neither F nor 1 - F is ever formed and nothing is clamped: y is finite wherever the
    true value can be represented. See `flowpp.kernels.mixture_logistic`.

    Source: Flow++ eqs. 17-19.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor

    def __init__(self, logits: Tensor, means: Tensor, log_scales: Tensor) -> None:
        super().__init__()
        check_components("MixtureLogistic", logits=logits, means=means, log_scales=log_scales)
        hold(self, "logits", logits)
        hold(self, "means", means)
        hold(self, "log_scales", log_scales)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(x, "MixtureLogistic")
        y, log_derivative = logit_cdf(x, self.logits, self.means, self.log_scales)
        return y, sum_per_example(log_derivative)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(y, "MixtureLogistic inverse")
        x = inverse_logit_cdf(y, self.logits, self.means, self.log_scales)
        _, log_derivative = logit_cdf(x, self.logits, self.means, self.log_scales)
        return x, -sum_per_example(log_derivative)
