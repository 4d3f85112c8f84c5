"""The baseline: a textbook implementation of the same model in eager PyTorch.

The mixture computes its CDF by logsumexp, exponentiates it and inverts a sigmoid. Its inverse
bisects the whole tensor 45 times. Attention stores its weights. All else is a sequence of torch's
operations. The weights are the library's, and the results agree where float32 permits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowpp.bijectors import Affine, Bijector, Chain
from flowpp.conditioner import (
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
)
from flowpp.config.build import set_compute
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.model import FlowPlusPlus

BISECTIONS = 45
BRACKET_SCALES = 20
PROBABILITY_FLOOR = 1e-6
"""Clamp of probabilities: without it the inverse sigmoid is infinite in float32."""


def logit_cdf(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx; parameters have shape x.shape + (K,)."""
    log_weights = functional.log_softmax(logits, -1)
    z = (x.unsqueeze(-1) - means) * torch.exp(-log_scales)
    log_below = log_weights + functional.logsigmoid(z)
    log_cdf = torch.logsumexp(log_below, -1)
    log_pdf = torch.logsumexp(log_below - log_scales + functional.logsigmoid(-z), -1)
    cdf = torch.exp(log_cdf).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    log_y, log_complement = torch.log(cdf), torch.log1p(-cdf)
    return log_y - log_complement, log_pdf - log_y - log_complement


@torch.no_grad()
def inverse_logit_cdf(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Find x with F(x) = sigmoid(y) by 45 bisections of a guessed bracket."""
    target = torch.log(torch.sigmoid(y).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
    log_weights = functional.log_softmax(logits, -1)
    reach = BRACKET_SCALES * torch.exp(log_scales).sum(-1)
    lower, upper = means.amin(-1) - reach, means.amax(-1) + reach
    rates = torch.exp(-log_scales)
    for _ in range(BISECTIONS):
        middle = (lower + upper) / 2
        z = (middle.unsqueeze(-1) - means) * rates
        below = torch.logsumexp(log_weights + functional.logsigmoid(z), -1) < target
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
    return (lower + upper) / 2


class Mixture(Bijector):
    """`MixtureLogistic` with the formulas above."""

    def __init__(self, *parameters: Tensor) -> None:
        super().__init__()
        self.parameters_of_mixture = parameters

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_derivative = logit_cdf(x, *self.parameters_of_mixture)
        return y, log_derivative.flatten(1).sum(1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = inverse_logit_cdf(y, *self.parameters_of_mixture)
        _, log_derivative = logit_cdf(x, *self.parameters_of_mixture)
        return x, -log_derivative.flatten(1).sum(1)


class MixtureFamily(MixtureLogisticFamily):
    """`MixtureLogisticFamily` of textbook mixtures, whose components are contiguous in memory."""

    def forward(self, parameters: Tensor) -> Chain:
        affine, *mixture = parameters.contiguous().split([2] + [self.components] * 3, dim=-1)
        logits, means, log_scales = mixture
        if self.log_scale_floor is not None:
            log_scales = log_scales.clamp(min=self.log_scale_floor)
        scale, shift = torch.tanh(affine[..., 0]), affine[..., 1]
        return Chain((Mixture(logits, means, log_scales), Affine(scale, shift)))


class Attention(GatedAttention):
    """`GatedAttention` with softmax(q k^T / sqrt(d)) v as plain products."""

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        batch, filters, height, width = x.shape
        projected = self.proj_in(x if position is None else x + position)
        split = projected.reshape(batch, 3, self.heads, filters // self.heads, height * width)
        query, key, value = split.transpose(-1, -2).unbind(1)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        attended = torch.softmax(scores, -1) @ value
        merged = attended.transpose(-1, -2).reshape(batch, filters, height, width)
        merged = functional.dropout(merged, self.dropout, self.training)
        return x + _gate(self.proj_out(merged))


class Convolution(GatedConv):
    """`GatedConv` of torch's operations."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.conv_in(_concat_elu(x))
        if context is not None and self.conv_context is not None:
            h = h + self.conv_context(_concat_elu(context))
        h = functional.dropout(_concat_elu(h), self.dropout, self.training)
        return x + _gate(self.conv_out(h))


class Maxout(GatedMaxout):
    """`GatedMaxout` with torch's dropout and sigmoid."""

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        projected = self.proj_in(x if position is None else x + position)
        h = projected.unflatten(1, (-1, 3)).amax(2)
        h = functional.dropout(h, self.dropout, self.training)
        return x + _gate(self.proj_out(h))


class Network(Conditioner):
    """`Conditioner` with torch's activation before its last convolution."""

    def _network(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, context, self.position)
        if self.proj_out is None:
            return h
        return self.proj_out(_concat_elu(h) if self.activate_last else h)


class Kernel(Conv2d):
    """`Conv2d` by torch's convolution for all kernel sizes."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.kernel(), self.bias, padding=self.weight.shape[-1] // 2)


class Norm(LayerNorm):
    """`LayerNorm` with the channels transposed to the end and back."""

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        return functional.layer_norm(last, last.shape[-1:], self.gain, self.bias).movedim(-1, 1)


def model(library: FlowPlusPlus) -> FlowPlusPlus:
    """Return a copy of the library's model with every part replaced by its textbook version."""
    twin = copy.deepcopy(library)
    set_compute(twin)
    for part in twin.modules():
        if isinstance(part, Conditioner):  # many fields, but only one method differs
            part.__class__ = Network
    for parent, name, part in list(_parts(twin)):
        if isinstance(part, MixtureLogisticFamily):
            new: nn.Module = MixtureFamily(part.components, part.log_scale_floor)
        elif isinstance(part, GatedAttention):
            new = Attention(part.proj_in, part.proj_out, part.heads, part.dropout)
        elif isinstance(part, GatedMaxout):
            new = Maxout(part.proj_in, part.proj_out, part.dropout)
        elif isinstance(part, GatedConv):
            new = Convolution(part.conv_in, part.conv_out, part.conv_context, part.dropout)
        elif isinstance(part, LayerNorm):
            new = Norm(part.gain.data, part.bias.data)
        else:
            continue
        setattr(parent, name, new.train(part.training))
    for parent, name, part in list(_parts(twin)):  # also inside the parts made above
        if isinstance(part, Conv2d):
            gain = None if part.gain is None else part.gain.data
            setattr(parent, name, Kernel(part.weight.data, part.bias.data, gain, part.init_scale))
    return twin


def _parts(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in module.modules():
        for name, part in parent.named_children():
            yield parent, name, part


def _concat_elu(x: Tensor) -> Tensor:
    return functional.elu(torch.cat([x, -x], dim=1))


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * torch.sigmoid(b)
