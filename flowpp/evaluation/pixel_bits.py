"""Bits of each pixel: a decomposition of an image's one-sample bound over its pixels.

The bound is log N(z) + log|det| - log q. Every number in the flow can be traced back, through
the permutations only (squeezes, splits, flips), to one pixel of the image:

- an elementwise map, such as a coupling's mixture, the logit of the data or an activation
  normalization, adds the log-derivative of each number to the number's pixel;
- each latent z_i adds log N(z_i; 0, 1) to its pixel, and likewise in the dequantizer;
- a number of an augmentation is of the pixel that it lies at;
- what is not elementwise, such as a 1x1 convolution's log-determinant, is shared evenly.

So the map sums to the bits of the image. It is no marginal code length: couplings map one half of
the numbers given the other, so the bits of a pixel depend on its surroundings, and a 1x1
convolution after a squeeze mixes the four pixels of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowpp.bijectors import (
    ActNorm,
    Bijector,
    Chain,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Inverse,
    LiftedContext,
    Sigmoid,
)
from flowpp.bijectors.act_norm import GAIN_FLOOR
from flowpp.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from flowpp.model import FlowPlusPlus


@dataclass(frozen=True)
class _Traced:
    """Numbers in the flow, each with its log-derivative so far and the pixel it comes from.

    All three are permuted alike.
    """

    values: Tensor
    log_derivatives: Tensor
    pixels: Tensor

    @classmethod
    def start(cls, values: Tensor) -> _Traced:
        height, width = values.shape[2:]
        pixels = torch.arange(height * width, dtype=torch.float64, device=values.device)
        zeros = torch.zeros_like(values, dtype=torch.float64)
        return cls(values, zeros, pixels.reshape(1, 1, height, width).expand(values.shape))

    def add(self, values: Tensor, log_derivatives: Tensor) -> _Traced:
        total = self.log_derivatives + log_derivatives.double()
        return _Traced(values, total, self.pixels)

    def by_pixel(self) -> Tensor:
        """Return log-derivatives and log N(values), summed by pixel: (B, H * W)."""
        normal = -0.5 * self.values.double().square() - 0.5 * math.log(2 * math.pi)
        terms = (self.log_derivatives + normal).flatten(1)
        pixels = self.pixels.flatten(1).long()
        sums = terms.new_zeros(len(terms), int(pixels.max()) + 1)
        return sums.scatter_add(1, pixels, terms)


@torch.no_grad()
def pixel_bits(
    model: FlowPlusPlus, x: Tensor, noise: Tensor, context: Tensor | None = None
) -> Tensor:
    """Compute the bits of each pixel, float64 `(B, H, W)`.

    They sum to the image's bits, that is to -elbo / ln 2, within rounding.

    Args:
        model: the model in evaluation mode.
        x: `(B, C, H, W)`, integers 0 ... levels - 1.
        noise: as for `FlowPlusPlus.elbo`.
        context: likewise.
    """
    features = model.features(context, x.shape)
    given, _ = model.flow_input(x, noise, features)
    nats = _walk(model.flow, _Traced.start(given), features).by_pixel()
    channels = x.shape[1]
    nats = nats - _log_q(model, x, noise[:, :channels], features)
    if model.augmenter is not None:
        own = model.augmenter.context(given[:, :channels], features)
        nats = nats - _log_density(model.augmenter.flow, noise[:, channels:], own)
    return (-nats / math.log(2)).reshape(len(x), *x.shape[2:])


def _log_q(model: FlowPlusPlus, x: Tensor, noise: Tensor, features: Tensor | None) -> Tensor:
    """Return log q(u|x) by pixel: (B, H * W)."""
    dequantizer, pixels = model.dequantizer, x.shape[2] * x.shape[3]
    if isinstance(dequantizer, UniformDequantizer):
        return torch.zeros(len(x), pixels, dtype=torch.float64, device=x.device)
    if isinstance(dequantizer, VariationalDequantizer):
        return _log_density(dequantizer.flow, noise, dequantizer.context(x, noise.dtype, features))
    if isinstance(dequantizer, TruncatedNormalDequantizer):
        u, _ = dequantizer.sample(x, noise, features)
        return dequantizer.log_densities(x, u, features).sum(1).flatten(1)
    own = () if features is None else (features,)  # one of a user's may know no contexts
    _, log_q = dequantizer.sample(x, noise, *own)
    return (log_q.double() / pixels)[:, None].expand(-1, pixels)


def _log_density(flow: Bijector, noise: Tensor, context: Tensor) -> Tensor:
    """Return log N(noise) - log|det|, the log-density of a flow's output, by pixel: (B, H * W)."""
    traced = _walk(flow, _Traced.start(noise), context)
    # `by_pixel` adds log N of the values that it ends with.
    last = _Traced(traced.values, torch.zeros_like(traced.log_derivatives), traced.pixels)
    return _Traced.start(noise).by_pixel() - (traced.by_pixel() - last.by_pixel())


def _walk(bijector: Bijector, x: _Traced, context: Tensor | None) -> _Traced:
    """Apply a bijector to the values, and book its log-derivatives."""
    if isinstance(bijector, Chain):
        for part in bijector.bijectors:
            assert isinstance(part, Bijector)
            x = _walk(part, x, context)
        return x
    if isinstance(bijector, LiftedContext):
        assert context is not None
        return _walk(bijector.bijector, x, bijector.lift(context)[0])
    if isinstance(bijector, FactorOut):
        return _walk_part(bijector.bijector, x.values.shape[1] // 2, x, context)
    if isinstance(bijector, FirstChannels):
        return _walk_part(bijector.bijector, bijector.channels, x, context)
    if bijector.permutes or (isinstance(bijector, Inverse) and bijector.bijector.permutes):
        parts = (x.values, x.log_derivatives, x.pixels)
        return _Traced(*(bijector(part)[0] for part in parts))
    if isinstance(bijector, ActNorm):
        log_gain = bijector.gain.clamp(min=GAIN_FLOOR).double().log()
        return x.add(bijector(x.values)[0], log_gain.expand(x.values.shape))
    if isinstance(bijector, DataLogit | Sigmoid):
        # One number an example: its log-determinant is then the number's log-derivative.
        values, log_det = bijector(x.values.reshape(-1, 1, 1, 1))
        return x.add(values.reshape(x.values.shape), log_det.reshape(x.values.shape))
    if isinstance(bijector, Coupling):
        return _walk_coupling(bijector, x, context)
    values, log_det = bijector(x.values, context)
    even = log_det.double() / x.values[0].numel()
    return x.add(values, even.reshape(-1, 1, 1, 1).expand(x.values.shape))


def _walk_part(bijector: Bijector, channels: int, x: _Traced, context: Tensor | None) -> _Traced:
    """Apply a bijector to the first channels."""
    parts = (x.values, x.log_derivatives, x.pixels)
    mapped = _walk(bijector, _Traced(*(part[:, :channels] for part in parts)), context)
    after = (mapped.values, mapped.log_derivatives, mapped.pixels)
    rest = (part[:, channels:] for part in parts)
    return _Traced(*(torch.cat(pair, dim=1) for pair in zip(after, rest, strict=True)))


def _walk_coupling(coupling: Coupling, x: _Traced, context: Tensor | None) -> _Traced:
    a, b = x.values.chunk(2, dim=1)
    parameters = coupling._family_parameters(a, context)
    single = parameters.reshape(-1, 1, 1, 1, parameters.shape[-1])
    y, log_det = coupling.family.transform(b.reshape(-1, 1, 1, 1), single)
    log_derivatives = torch.cat([torch.zeros_like(a), log_det.reshape(b.shape)], dim=1)
    return x.add(torch.cat([a, y.reshape(b.shape)], dim=1), log_derivatives)
