"""The contract of every bijector, and all of them.

A bijector maps images to images, `x` on the data side and `y` on the noise side:

    forward(x, context=None) -> (y, log_det)     log_det = log |det dy/dx|
    inverse(y, context=None) -> (x, log_det)     log_det = log |det dx/dy|

Shapes are `(batch, channels, height, width)`; `log_det` has shape `(batch,)`, in nats, always. One
tensor goes in and one comes out: a split is a permutation that lays its halves on the channel
axis, where a `Coupling` finds them. The classes of the same names in the reference package are
their twins, field by field.
"""

from __future__ import annotations

from torch import Tensor, nn


class Bijector(nn.Module):
    """An invertible map of images with a known log-determinant."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise; returns `(y, log|det dy/dx|)`, shapes `(B, C, H, W)` and `(B,)`."""
        raise NotImplementedError

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data; returns `(x, log|det dx/dy|)`, shapes `(B, C, H, W)` and `(B,)`."""
        raise NotImplementedError


from .act_norm import ActNorm  # noqa: E402  (the contract comes first: the bijectors build on it)
from .affine import Affine  # noqa: E402
from .chain import Chain  # noqa: E402
from .channel_split import ChannelSplit  # noqa: E402
from .checkerboard import Checkerboard  # noqa: E402
from .column_stripes import ColumnStripes  # noqa: E402
from .coupling import Coupling  # noqa: E402
from .data_logit import DataLogit  # noqa: E402
from .factor_out import FactorOut  # noqa: E402
from .flip import Flip  # noqa: E402
from .inverse import Inverse  # noqa: E402
from .invertible_conv import InvertibleConv  # noqa: E402
from .invertible_conv_lu import InvertibleConvLU  # noqa: E402
from .mixture_logistic import MixtureLogistic  # noqa: E402
from .sigmoid import Sigmoid  # noqa: E402
from .squeeze import Squeeze  # noqa: E402

__all__ = [
    "ActNorm",
    "Affine",
    "Bijector",
    "Chain",
    "ChannelSplit",
    "Checkerboard",
    "ColumnStripes",
    "Coupling",
    "DataLogit",
    "FactorOut",
    "Flip",
    "Inverse",
    "InvertibleConv",
    "InvertibleConvLU",
    "MixtureLogistic",
    "Sigmoid",
    "Squeeze",
]
