"""Models as ONNX: encoder and bound, for `onnxruntime` and others.

    program = onnx.encode(model, (3, 32, 32))        # (images, noise) -> z, log_det, log_q
    program = onnx.log_prob(model, (3, 32, 32))      # (images, noise) -> bound in nats
    program.save("bound.onnx")

The context of a conditional model is a third input.

Needs `pip install flowpp[onnx]`. As for `interop.export`, values are not checked, dropout is off,
and results differ from the library's by rounding. `decode` is not exported: the mixture's inverse
is a loop, of which torch's exporter makes one copy of the mixture for each step and each coupling,
and it fails to convert `torch.scan`.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from flowpp.bijectors import Bijector, InvertibleConv, InvertibleConvLU
from flowpp.bijectors.invertible_conv import mix_channels
from flowpp.config import checks
from flowpp.config.build import Shape
from flowpp.interop.export import Encode, example_inputs
from flowpp.kernels.backend import use_backend
from flowpp.model import FlowPlusPlus
from flowpp.objective import log_normal


def encode(model: FlowPlusPlus, image_shape: Shape) -> Any:
    """Export (images, noise) -> (z, log-determinant of the flow, log q(u|x)).

    Args:
        model: the model, which is not changed.
        image_shape: (channels, height, width); the batch may have any size.

    Returns:
        A `torch.onnx.ONNXProgram`, which has a method `save(path)`.

    Raises:
        ImportError: `onnx` or `onnxscript` is not installed.
    """
    copied = _simplified(model)
    x = _example(copied, image_shape)
    return _program(Encode(copied), example_inputs(copied, x), ("z", "log_det", "log_q"))


def log_prob(model: FlowPlusPlus, image_shape: Shape) -> Any:
    """Export (images, noise) -> one-sample lower bound on log P(x) in nats; as `encode`."""
    copied = _simplified(model)
    x = _example(copied, image_shape)
    return _program(_LogProb(copied), example_inputs(copied, x), ("log_prob",))


class _LogProb(nn.Module):
    def __init__(self, model: FlowPlusPlus) -> None:
        super().__init__()
        self.encode = Encode(model)

    def forward(self, x: Tensor, noise: Tensor, context: Tensor | None = None) -> Tensor:
        z, log_det, log_q = self.encode(x, noise, context)
        return log_normal(z) + log_det - log_q


class _ConstantConv(Bijector):
    """A 1x1 convolution whose matrix, inverse and log|det| are constants."""

    weight: Tensor
    inverse_weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        wide = weight.double()
        self.register_buffer("weight", weight)
        self.register_buffer("inverse_weight", torch.linalg.inv(wide).to(weight.dtype))
        self.log_abs = float(torch.linalg.slogdet(wide).logabsdet.sum())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return mix_channels(x, self.weight), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return mix_channels(y, self.inverse_weight), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return x.new_full((x.shape[0],), x.shape[2] * x.shape[3] * self.log_abs)


@torch.no_grad()
def _simplified(model: FlowPlusPlus) -> FlowPlusPlus:
    """Return a copy in evaluation mode without operations of weights that ONNX does not have."""
    checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
    model = copy.deepcopy(model).eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InvertibleConv):
                child._check_condition()
                setattr(parent, name, _ConstantConv(child.weight.detach()))
            elif isinstance(child, InvertibleConvLU):
                lower, upper = child._factors(child.lower)
                product = torch.gather(lower @ upper, 1, child._rows())
                setattr(parent, name, _ConstantConv(product.to(child.lower.dtype)))
    return model


def _example(model: FlowPlusPlus, shape: Shape) -> Tensor:
    """Return zeros of two images: torch.export treats sizes 0 and 1 as constants."""
    like = next(model.parameters())
    return torch.zeros((2, *shape), dtype=like.dtype, device=like.device)


def _program(module: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[str, ...]) -> Any:
    sizes = tuple({0: Dim("batch")} for _ in inputs)
    translations: dict[Any, Any] = {torch.ops.aten.copysign.Tensor: _copysign()}
    with use_backend("torch"), torch.no_grad():
        exported = torch.export.export(module.eval(), inputs, dynamic_shapes=sizes, strict=False)
        return torch.onnx.export(
            exported,
            output_names=list(outputs),
            custom_translation_table=translations,
            verbose=False,
        )


def _copysign() -> Any:
    """Return the translation of an operation that torch's exporter does not have."""
    try:
        importlib.import_module("onnx")  # torch's exporter needs it later
        from onnxscript import opset18 as op
    except ImportError as error:
        raise ImportError(
            f"ONNX programs need onnx and onnxscript: pip install 'flowpp[onnx]' ({error})"
        ) from error

    def copysign(size, sign):
        below = op.Less(sign, op.CastLike(0.0, sign))
        # The reciprocal of -0 is below 0 as well.
        negative = op.Or(below, op.Less(op.Reciprocal(sign), op.CastLike(0.0, sign)))
        return op.Where(negative, op.Neg(op.Abs(size)), op.Abs(size))

    return copysign
