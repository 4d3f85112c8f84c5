"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

from torch import Tensor, nn

from .bijectors.bijector import Bijector
from .bijectors.chain import Chain
from .bijectors.data_logit import DataLogit
from .dequantization import Dequantizer
from .objective import Elbo, log_normal


class FlowPlusPlus(nn.Module):
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    Args:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels.
    """

    def __init__(self, dequantizer: Dequantizer, flow: Bijector) -> None:
        super().__init__()
        first = _first(flow)
        if isinstance(first, DataLogit) and first.levels != dequantizer.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {dequantizer.levels} levels, "
                f"got {first.levels}"
            )
        self.dequantizer = dequantizer
        self.flow = flow

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def elbo(self, x: Tensor, noise: Tensor) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: `(B, C, H, W)`, integers 0 ... levels - 1 of any dtype.
            noise: `(B, C, H, W)`, from `dequantizer.draw_noise`; its dtype is the dtype of the
                computation.
        """
        u, log_q = self.dequantizer.sample(x, noise)
        z, log_det = self.flow(x.to(u.dtype) + u)
        return Elbo(log_q, log_det, log_normal(z))

    def forward(self, x: Tensor, noise: Tensor) -> Elbo:
        """Call `elbo`; hooks and data-parallel wrappers use this method."""
        return self.elbo(x, noise)

    def encode(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map integer images x to z, `(B, C', H', W')`."""
        u, _ = self.dequantizer.sample(x, noise)
        z, _ = self.flow(x.to(u.dtype) + u)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images.
        """
        x, _ = self.flow.inverse(z)
        return x.clamp(0, self.levels)

    def decode_images(self, z: Tensor) -> Tensor:
        """Map z to integer images: decode, and round down to 0 ... levels - 1."""
        return self.decode(z).floor().clamp(max=self.levels - 1)


def _first(flow: nn.Module) -> nn.Module:
    """Return the bijector that the image enters first, inside any nested chains."""
    while isinstance(flow, Chain) and len(flow.bijectors):
        flow = flow.bijectors[0]
    return flow
