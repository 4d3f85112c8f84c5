"""Space to depth: each 2x2 block of pixels becomes four channels."""

from __future__ import annotations

from torch import Tensor

from .bijector import Bijector
from .log_dets import no_log_det


class Squeeze(Bijector):
    """(B, C, H, W) -> (B, 4C, H/2, W/2): y[(2 dy + dx) C + c, i, j] = x[c, 2i + dy, 2j + dx].

    The position inside the 2x2 block is the slow channel index, as in the released code;
    in `torch.nn.PixelUnshuffle` the channel is.

    Raises:
        ValueError: an odd height or width (forward), or a number of channels that 4 does not
            divide (inverse).

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.6.
    """

    divisors = {"height": 2, "width": 2}
    inverse_divisors = {"channels": 4}
    permutes = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        y = blocks.permute(0, 3, 5, 1, 2, 4)
        return y.reshape(batch, 4 * channels, height // 2, width // 2), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = y.shape
        blocks = y.reshape(batch, 2, 2, channels // 4, height, width)
        x = blocks.permute(0, 3, 4, 1, 5, 2)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width), no_log_det(y)
