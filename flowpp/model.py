"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

from torch import Tensor, nn

from .bijectors import Bijector, Chain, DataLogit
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
        """Number of grey levels of the images."""
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
        """The same as `elbo`, so that hooks and data-parallel wrappers work."""
        return self.elbo(x, noise)

    def encode(self, x: Tensor, noise: Tensor) -> Tensor:
        """z `(B, C', H', W')` of integer images x."""
        u, _ = self.dequantizer.sample(x, noise)
        z, _ = self.flow(x.to(u.dtype) + u)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Real-valued images x + u of z, cut to [0, levels]; their integer part is the image.

        The flow reaches a little beyond [0, levels], where no image is.
        """
        x, _ = self.flow.inverse(z)
        return x.clamp(0, self.levels)

    def decode_images(self, z: Tensor) -> Tensor:
        """Integer images of z: decoded and truncated to 0 ... levels - 1."""
        return self.decode(z).floor().clamp(max=self.levels - 1)


def _first(flow: nn.Module) -> nn.Module:
    """The bijector that meets the image, inside however many chains."""
    while isinstance(flow, Chain) and len(flow.bijectors):
        flow = flow.bijectors[0]
    return flow
