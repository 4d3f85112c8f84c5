"""The conditioner's parts: one pass through memory each for float32 on the CPU, else plain torch.

Each function decides for itself, as the mixture's do. The compiled form equals the plain one up
to rounding and keeps less for the backward pass: an ELU's slope is found in its output, a dropout
mask is its random bits, attention weights are computed anew. A second derivative goes through the
plain formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowpp.kernels.backend import backend_for
from flowpp.kernels.cpu.layers import call, is_available

RANDOM_BITS = 16
COARSEST_DROPOUT = 0.99
"""Above, 16 bits would be too few for the rate."""


def applies_to(*tensors: Tensor) -> bool:
    """Whether the compiled form is taken for such tensors.

    `use_backend` decides as it does for the mixture.
    """
    return (
        all(
            type(x) in (Tensor, nn.Parameter)
            and x.dtype is torch.float32
            and x.device.type == "cpu"
            for x in tensors
        )
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")  # it would change the products' dtype inside
        and backend_for(tensors[0]) == "cpp"
        and is_available()
    )


def concat_elu(x: Tensor) -> Tensor:
    """elu(concat(x, -x)): `(B, F, H, W) -> (B, 2F, H, W)`."""
    return _ConcatElu.apply(x.contiguous()) if applies_to(x) else _plain_concat_elu(x)


def concat_elu_dropout(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """dropout(concat_elu(x), rate); see `dropout`."""
    if _drops_here(x, rate, training=training):
        bits = random_bits(2 * x.numel())
        return _ConcatEluDropout.apply(x.contiguous(), bits, *_threshold_and_scale(rate))
    return dropout(concat_elu(x), rate, training=training)


def dropout(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """In training each number is 0 with probability p, or else divided by 1 - p.

    In the compiled form p = round(65536 rate) / 65536, within 8e-6 of the rate: 16 random bits a
    number decide, four numbers for each 64-bit draw from torch's generator. 1 - p is that of the
    rounded p, so that the expectation is x exactly.
    """
    if _drops_here(x, rate, training=training):
        return _Dropout.apply(x, random_bits(x.numel()), *_threshold_and_scale(rate))
    return functional.dropout(x, rate, training)


def gated_sum(x: Tensor, gates: Tensor) -> Tensor:
    """x + a * sigmoid(b), with a and b the channel halves of the gates `(B, 2F, H, W)`."""
    matching = gates.shape == (x.shape[0], 2 * x.shape[1], *x.shape[2:])
    if matching and applies_to(x, gates):
        return _GatedSum.apply(x.contiguous(), gates.contiguous())
    return x + functional.glu(gates, dim=1)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * gain + bias over the channels of each position."""
    if applies_to(x, gain, bias):
        return _LayerNorm.apply(x.contiguous(), gain, bias, epsilon)
    return _plain_layer_norm(x, gain, bias, epsilon)


def attention(projected: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of every head, merged: `(B, 3F, H, W) -> (B, F, H, W)`.

    The channels of `projected` are q, k, v (slowest), then the head, then d.
    """
    if applies_to(projected):
        return _Attention.apply(projected.contiguous(), heads)
    query, key, value = _split(projected, heads).mT.unbind(1)
    attended = functional.scaled_dot_product_attention(query, key, value)
    return _merged(attended.mT, projected)


def _drops_here(x: Tensor, rate: float, *, training: bool) -> bool:
    return training and 0 < rate <= COARSEST_DROPOUT and applies_to(x)


def random_bits(count: int) -> Tensor:
    """Independent uniform int16 numbers, a quarter of a 64-bit draw each."""
    draws = torch.empty((count + 3) // 4, dtype=torch.int64)
    return draws.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[:count]


def _threshold_and_scale(rate: float) -> tuple[int, float]:
    threshold = round(rate * 2**RANDOM_BITS)
    return threshold, 2**RANDOM_BITS / (2**RANDOM_BITS - threshold)


def _mask(bits: Tensor, threshold: int, scale: float) -> Tensor:
    """What the kernels multiply with: 0 or the scale."""
    return scale * ((bits.int() & 0xFFFF) >= threshold).float()


def _halves(x: Tensor) -> tuple[int, int]:
    """Images, and numbers of each."""
    return x.shape[0], x[0].numel() if len(x) else 0


def through_formula(
    formula: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of formula(*inputs) that can be differentiated again."""
    wanted = [t for t in inputs if t.requires_grad]
    if not wanted:
        return (None,) * len(inputs)
    with torch.enable_grad():
        found = iter(torch.autograd.grad(formula(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if t.requires_grad else None for t in inputs)


def _plain_concat_elu(x: Tensor) -> Tensor:
    return functional.elu(torch.cat([x, -x], dim=1))


def _plain_layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    last = x.movedim(1, -1)
    return functional.layer_norm(last, last.shape[-1:], gain, bias, epsilon).movedim(-1, 1)


# What these keep must be what they are given, or a second derivative would not find it: so it is
# made contiguous before they are called.


class _ConcatElu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.new_empty(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        call("concat_elu_forward", x, *_halves(x), y)
        ctx.save_for_backward(y)  # the next convolution keeps it anyway
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            first, second = y.chunk(2, dim=1)
            x = torch.where(first > 0, first, -second)
            return through_formula(_plain_concat_elu, (x,), grad)
        grad_x = y.new_empty(y.shape[0], y.shape[1] // 2, *y.shape[2:])
        call("concat_elu_backward", y, grad.contiguous(), *_halves(grad_x), grad_x)
        return grad_x


class _ConcatEluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, threshold: int, scale: float) -> Tensor:
        y = x.new_empty(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        call("concat_elu_dropout_forward", x, bits, *_halves(x), threshold, scale, y)
        ctx.save_for_backward(x, bits)
        ctx.dropout = threshold, scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, bits = ctx.saved_tensors
        if torch.is_grad_enabled():
            mask = _mask(bits, *ctx.dropout).reshape(grad.shape)
            (grad_x,) = through_formula(lambda x: mask * _plain_concat_elu(x), (x,), grad)
        else:
            grad_x = torch.empty_like(x)
            call(
                "concat_elu_dropout_backward", x, bits, grad.contiguous(), *_halves(x),
                *ctx.dropout, grad_x,
            )  # fmt: skip
        return grad_x, None, None, None


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, threshold: int, scale: float) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        call("dropout", x, bits, x.numel(), threshold, scale, y)
        ctx.save_for_backward(bits)
        ctx.dropout = threshold, scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (bits,) = ctx.saved_tensors
        # Linear in x: with the same bits, the backward pass is the forward pass.
        return _Dropout.apply(grad, bits, *ctx.dropout), None, None, None


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor) -> Tensor:
        y = torch.empty_like(x)
        call("gated_sum_forward", x, gates, *_halves(x), y)
        ctx.save_for_backward(gates)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gates,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return grad, *through_formula(lambda g: functional.glu(g, 1), (gates,), grad)
        grad_gates = torch.empty_like(gates)
        call("gated_sum_backward", gates, grad.contiguous(), *_halves(grad), grad_gates)
        return grad, grad_gates


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y = torch.empty_like(x)
        means, rates = x.new_empty(2, x.shape[0], *x.shape[2:]).unbind()
        call(
            "layer_norm_forward", x, gain.contiguous(), bias.contiguous(), *_sizes(x), epsilon, y,
            means, rates,
        )  # fmt: skip
        ctx.save_for_backward(x, gain, bias, means, rates)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, gain, bias, means, rates = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through_formula(
                lambda x, gain, bias: _plain_layer_norm(x, gain, bias, ctx.epsilon),
                (x, gain, bias),
                grad,
            ), None
        grad_x = torch.empty_like(x)
        partial = x.new_zeros(torch.get_num_threads(), 2, x.shape[1])
        call(
            "layer_norm_backward", x, gain.contiguous(), means, rates, grad.contiguous(),
            *_sizes(x), grad_x, partial,
        )  # fmt: skip
        return grad_x, *partial.sum(0).unbind(), None


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Batch, channels, positions."""
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, heads: int) -> Tensor:
        batch, channels, height, width = projected.shape
        merged = projected.new_empty(batch, channels // 3, height, width)
        largest, sums = projected.new_empty(2, batch, heads, height * width).unbind()
        call("attention_forward", projected, *_head_sizes(projected, heads), largest, sums, merged)
        ctx.save_for_backward(projected, largest, sums)
        ctx.heads = heads
        return merged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        projected, largest, sums = ctx.saved_tensors
        heads = ctx.heads
        if torch.is_grad_enabled():
            return *through_formula(lambda p: _plain_attention(p, heads), (projected,), grad), None
        grad_projected = torch.empty_like(projected)
        call(
            "attention_backward", projected, largest, sums, grad.contiguous(),
            *_head_sizes(projected, heads), grad_projected,
        )  # fmt: skip
        return grad_projected, None


def _head_sizes(projected: Tensor, heads: int) -> tuple[int, int, int, int, float]:
    """Batch, heads, d, positions, 1 / sqrt(d)."""
    batch, channels, height, width = projected.shape
    depth = channels // (3 * heads)
    return batch, heads, depth, height * width, depth**-0.5


def _plain_attention(projected: Tensor, heads: int) -> Tensor:
    """Written out: torch's own attention cannot be differentiated twice on the CPU."""
    query, key, value = _split(projected, heads).unbind(1)
    weights = torch.softmax(query.mT @ key * query.shape[-2] ** -0.5, -1)
    return _merged(value @ weights.mT, projected)


def _split(projected: Tensor, heads: int) -> Tensor:
    """`(B, 3 * heads * d, H, W) -> (B, 3, heads, d, H*W)`."""
    batch, channels, height, width = projected.shape
    return projected.reshape(batch, 3, heads, channels // (3 * heads), height * width)


def _merged(heads: Tensor, projected: Tensor) -> Tensor:
    """`(B, heads, d, H*W)` to `(B, F, H, W)`, of what was made from `projected`."""
    batch, channels, height, width = projected.shape
    return heads.reshape(batch, channels // 3, height, width)
