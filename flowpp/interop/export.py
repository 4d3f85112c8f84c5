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

    The one-sample bound is log N(z; 0, I) + log-determinant - log q. A conditional model's context
    is the third input.

    Args:
        model: the model in evaluation mode.
    """

    def __init__(self, model: FlowPlusPlus) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Tensor, noise: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images `(B, C, H, W)` of the weights' dtype, with the model's noise."""
        features = self.model.features(context, x.shape)
        given, log_q = self.model.flow_input(x, noise, features)
        z, log_det = self.model.flow(given, features)
        return z, log_det, log_q


def example_inputs(model: FlowPlusPlus, x: Tensor) -> tuple[Tensor, ...]:
    """Return images x, noise for them that any dequantizer accepts, and contexts if need be.

    Raises:
        ValueError: a conditional model without a description of its contexts.
    """
    inputs = (x, x.new_full(model.augmented_shape(x.shape), 0.5))
    if model.context_encoder is None:
        return inputs
    spec = model.context_spec
    if spec is None:
        raise ValueError(
            "the contexts of a conditional model must be described by model.context_spec, as in "
            "models of build_model, got None"
        )
    dtype = torch.int64 if spec.kind == "labels" else x.dtype
    return (*inputs, x.new_zeros((len(x), *spec.shape), dtype=dtype))


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
        ValueError: `batch` is below 1; as `example_inputs`.
    """
    checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    like = next(model.parameters())
    # torch.export treats sizes 0 and 1 as constants.
    x = torch.zeros((batch or 2, *image_shape), dtype=like.dtype, device=like.device)
    inputs = example_inputs(model, x)
    sizes = None if batch is not None else tuple({0: Dim("batch")} for _ in inputs)
    with use_backend("torch"), torch.no_grad():
        return torch.export.export(
            Encode(model.eval()), inputs, dynamic_shapes=sizes, strict=False
        )
