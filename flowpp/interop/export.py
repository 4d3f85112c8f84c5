"""`torch.export` of a model's way from images to z.

The program holds torch's own operations and no Python: it can be saved by `torch.export.save`,
and run, or compiled ahead of time, where this library is not installed.

What cannot be exported:

- `decode`: a mixture's inverse is searched for until every element is proven, and how long that
  takes is seen in the numbers alone; a program of fixed length could not keep the promise to
  return a proven root or an error. Decoding needs this library.
- the refusal of images that are not integers within the levels, and of weights that are not
  finite: a program cannot raise for what values are. Check them beforehand.
- dropout and the compiled kernels: the program is that of evaluation mode in torch's operations,
  whose numbers differ from the kernels' by a few units in the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from flowpp.config.build import Shape
from flowpp.kernels.backend import use_backend
from flowpp.model import FlowPlusPlus


class Encode(nn.Module):
    """(images, noise) -> (z, log-determinant of the flow, log q(u|x)).

    The one-sample bound is log N(z; 0, I) + log-determinant - log q(u|x).

    Args:
        model: a model in evaluation mode.
    """

    def __init__(self, model: FlowPlusPlus) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images `(B, C, H, W)` of the weights' dtype, and noise that `draw_noise` drew."""
        u, log_q = self.model.dequantizer.sample(x, noise)
        z, log_det = self.model.flow(x + u)
        return z, log_det, log_q


def export_encode(
    model: FlowPlusPlus, image_shape: Shape, *, batch: int | None = None
) -> ExportedProgram:
    """The program of `Encode`.

    Args:
        model: it is put into evaluation mode.
        image_shape: (channels, height, width).
        batch: number of images at a time; any number from 1 if None.

    Raises:
        ValueError: a batch below one.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    like = next(model.parameters())
    # Sizes 0 and 1 would be taken for constants.
    x = torch.zeros((batch or 2, *image_shape), dtype=like.dtype, device=like.device)
    sizes = None if batch is not None else ({0: Dim("batch")}, {0: Dim("batch")})
    with use_backend("torch"), torch.no_grad():
        return torch.export.export(
            Encode(model.eval()), (x, torch.full_like(x, 0.5)), dynamic_shapes=sizes, strict=False
        )
