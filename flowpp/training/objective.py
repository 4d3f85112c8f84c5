"""The bound that training maximizes: with one noise an image the ELBO, with several a tighter one.

With k > 1 noises it is log mean_k exp(bound) (Burda, Grosse and Salakhutdinov 2016, eq. 8), and
its gradient is that of autograd through the reparametrized noise. As k grows, so do mean over
deviation of the gradient of the flow's weights, as sqrt(k), but those of q's weights (dequantizer
and augmenter) fall, as 1 / sqrt(k) (Rainforth et al. 2018). The doubly reparametrized estimator of
Tucker et al. 2019, which avoids this, is not used: small k are meant.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from flowpp.objective import Elbo, importance_weighted_bound


def training_bound(
    elbo: Callable[..., Elbo], x: Tensor, noise: Tensor, *context: Tensor
) -> Tensor:
    """Compute the bound on log P(x) of each image, in nats: (N,).

    Args:
        elbo: A model, its wrapper for several processes, or its method `elbo`.
        x: Images of shape (N, C, H, W).
        noise: Noise of the model, of shape (N, C', H, W), or (N, k, C', H, W) for k draws.
        *context: Of a conditional model, a row for each image.
    """
    if noise.ndim == x.ndim:
        return elbo(x, noise, *context).total
    draws = noise.shape[1]
    repeated = (part.repeat_interleave(draws, dim=0) for part in context)
    total = elbo(x.repeat_interleave(draws, dim=0), noise.flatten(0, 1), *repeated).total
    return importance_weighted_bound(total.unflatten(0, (len(x), draws)).T)
