"""`torch.export` of a model's encoder, from images to z.

The program contains only torch operations: it can be saved by `torch.export.save`, and run or
compiled ahead of time where this library is not installed.

Not exported:

- `decode`: the mixture's inverse iterates until every root is proven, for a number of steps that
  depends on the values. A fixed program could not guarantee a proven root or an error.
- Checks of values, such as integers within the levels or finite weights: an exported program
  cannot raise errors that depend on values. Check them beforehand.
- Dropout and the compiled kernels: the program uses evaluation mode and torch's operations, whose
  results differ from the kernels' by a few units in the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from flowpp.config import checks
from flowpp.config.build import Shape
from flowpp.kernels.backend import use_backend
from flowpp.model import FlowPlusPlus


class Encode(nn.Module):
    """(images, noise) -> (z, log-determinant of the flow, log q), as `Elbo`.

    The one-sample bound is log N(z; 0, I) + log-determinant - log q.

    Args:
        model: the model in evaluation mode.
    """

    def __init__(self, model: FlowPlusPlus) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images `(B, C, H, W)` of the weights' dtype, with the model's noise."""
        given, log_q = self.model.flow_input(x, noise)
        z, log_det = self.model.flow(given)
        return z, log_det, log_q


def example_noise(model: FlowPlusPlus, x: Tensor) -> Tensor:
    """Return noise for images x that any dequantizer accepts."""
    return x.new_full(model.augmented_shape(x.shape), 0.5)


def export_encode(
    model: FlowPlusPlus, image_shape: Shape, *, batch: int | None = None
) -> ExportedProgram:
    """Export `Encode`.

    Args:
        model: the model, which is put into evaluation mode.
        image_shape: (channels, height, width).
        batch: batch size of the program; None for any size from 1.

    Raises:
        TypeError: not a `FlowPlusPlus`.
        ValueError: `batch` is below 1.
    """
    checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    like = next(model.parameters())
    # torch.export treats sizes 0 and 1 as constants.
    x = torch.zeros((batch or 2, *image_shape), dtype=like.dtype, device=like.device)
    sizes = None if batch is not None else ({0: Dim("batch")}, {0: Dim("batch")})
    with use_backend("torch"), torch.no_grad():
        return torch.export.export(
            Encode(model.eval()), (x, example_noise(model, x)), dynamic_shapes=sizes, strict=False
        )
