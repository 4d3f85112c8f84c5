"""Layers of conditioners, each in one pass through memory by the CPU kernels, else by torch.

A compiled layer equals the plain one up to rounding and keeps less for the backward pass: an
ELU's derivative is computed from its output, and a dropout mask is stored as its random bits.
Second derivatives go through the plain formulas.

The autograd functions here save their arguments as they are, since a second derivative needs the
original tensors. So their callers make the arguments contiguous.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .backend import backend_for
from .cpu.launch import call
from .double_backward import formula_gradients, needs_formula
from .tracing import is_exporting, is_traced
from .visibility import is_observed, is_plain

RANDOM_BITS = 16
MAX_RATE = 0.99
"""Largest dropout rate of the compiled form: 16 bits would be too coarse for higher ones."""

_call = partial(call, "layers.cpp")


def _is_compiled(*tensors: Tensor) -> bool:
    return backend_for(*tensors, kernel="layers") == "cpu"


def _batch_and_size(x: Tensor) -> tuple[int, int]:
    """Return the number of images and the number of elements of each."""
    return x.shape[0], x[0].numel() if len(x) else 0


# ---- concat_elu -------------------------------------------------------------------------------


def concat_elu(x: Tensor) -> Tensor:
    """Compute elu(concat(x, -x)): `(B, F, H, W) -> (B, 2F, H, W)`."""
    return _ConcatElu.apply(x.contiguous()) if _is_compiled(x) else _plain_concat_elu(x)


def _plain_concat_elu(x: Tensor) -> Tensor:
    if is_traced():  # the compiler fuses this form, and keeps only x for the backward pass
        return torch.cat([functional.elu(x), functional.elu(-x)], dim=1)
    return functional.elu(torch.cat([x, -x], dim=1))


class _ConcatElu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.new_empty(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        _call("concat_elu_forward", x, *_batch_and_size(x), y)
        ctx.save_for_backward(y)  # the next convolution saves it anyway
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        if needs_formula(grad):
            with torch.enable_grad():
                first, second = y.chunk(2, dim=1)
                x = torch.where(first > 0, first, -second)
            return formula_gradients(_plain_concat_elu, (x,), grad)
        grad_x = y.new_empty(y.shape[0], y.shape[1] // 2, *y.shape[2:])
        _call("concat_elu_backward", y, grad.contiguous(), *_batch_and_size(grad_x), grad_x)
        return grad_x


# ---- dropout ----------------------------------------------------------------------------------


def dropout(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """Set each element to 0 with probability p in training, and divide the others by 1 - p.

    In the compiled form p = round(65536 rate) / 65536, within 8e-6 of the rate: 16 random bits
    decide on each element, a quarter of a 64-bit draw from torch's generator. The divisor uses
    the rounded p, so that the expectation is exactly x.
    """
    if _drops_compiled(x, rate, training=training):
        return _Dropout.apply(x, random_bits(x.numel()), *_threshold_and_scale(rate))
    return functional.dropout(x, rate, training)


def concat_elu_dropout(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """Compute dropout(concat_elu(x), rate); see `dropout`."""
    if _drops_compiled(x, rate, training=training):
        bits = random_bits(2 * x.numel())
        return _ConcatEluDropout.apply(x.contiguous(), bits, *_threshold_and_scale(rate))
    if is_traced():  # fused, unlike dropout of the joined halves
        halves = (functional.dropout(functional.elu(half), rate, training) for half in (x, -x))
        return torch.cat(list(halves), dim=1)
    return dropout(concat_elu(x), rate, training=training)


def random_bits(count: int) -> Tensor:
    """Draw independent uniform int16 numbers, four from each 64-bit draw."""
    draws = torch.empty((count + 3) // 4, dtype=torch.int64)
    return draws.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[:count]


def _drops_compiled(x: Tensor, rate: float, *, training: bool) -> bool:
    return training and 0 < rate <= MAX_RATE and _is_compiled(x)


def _threshold_and_scale(rate: float) -> tuple[int, float]:
    threshold = round(rate * 2**RANDOM_BITS)
    return threshold, 2**RANDOM_BITS / (2**RANDOM_BITS - threshold)


def _mask(bits: Tensor, threshold: int, scale: float) -> Tensor:
    """Return the kernels' factors: 0 or the scale."""
    return scale * ((bits.int() & 0xFFFF) >= threshold).float()


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, threshold: int, scale: float) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        _call("dropout", x, bits, x.numel(), threshold, scale, y)
        ctx.save_for_backward(bits)
        ctx.dropout = threshold, scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (bits,) = ctx.saved_tensors
        if is_observed() or not is_plain(grad):
            return grad * _mask(bits, *ctx.dropout).reshape(grad.shape), None, None, None
        # Linear in x: with the same bits, the backward pass is the forward pass.
        return _Dropout.apply(grad, bits, *ctx.dropout), None, None, None


class _ConcatEluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, threshold: int, scale: float) -> Tensor:
        y = x.new_empty(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        _call("concat_elu_dropout_forward", x, bits, *_batch_and_size(x), threshold, scale, y)
        ctx.save_for_backward(x, bits)
        ctx.dropout = threshold, scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, bits = ctx.saved_tensors
        if needs_formula(grad):
            mask = _mask(bits, *ctx.dropout).reshape(grad.shape)
            (grad_x,) = formula_gradients(lambda x: mask * _plain_concat_elu(x), (x,), grad)
        else:
            grad_x = torch.empty_like(x)
            _call(
                "concat_elu_dropout_backward", x, bits, grad.contiguous(), *_batch_and_size(x),
                *ctx.dropout, grad_x,
            )  # fmt: skip
        return grad_x, None, None, None


# ---- gated_sum --------------------------------------------------------------------------------


def gated_sum(x: Tensor, gates: Tensor) -> Tensor:
    """Compute x + a * sigmoid(b), with a and b the channel halves of the gates `(B, 2F, H, W)`."""
    matching = gates.shape == (x.shape[0], 2 * x.shape[1], *x.shape[2:])
    if matching and _is_compiled(x, gates):
        return _GatedSum.apply(x.contiguous(), gates.contiguous())
    return x + _gate(gates)


def _gate(gates: Tensor) -> Tensor:
    if is_traced():  # the compiler would write glu's gradient in float32
        a, b = gates.chunk(2, dim=1)
        return a * torch.sigmoid(b)
    return functional.glu(gates, dim=1)


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor) -> Tensor:
        y = torch.empty_like(x)
        _call("gated_sum_forward", x, gates, *_batch_and_size(x), y)
        ctx.save_for_backward(gates)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gates,) = ctx.saved_tensors
        if needs_formula(grad):
            return grad, *formula_gradients(lambda g: functional.glu(g, 1), (gates,), grad)
        grad_gates = torch.empty_like(gates)
        _call("gated_sum_backward", gates, grad.contiguous(), *_batch_and_size(grad), grad_gates)
        return grad, grad_gates


# ---- layer_norm -------------------------------------------------------------------------------


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Compute (x - mean) / sqrt(var + epsilon) * gain + bias over each position's channels.

    Numerics: The compiled form is accurate for all finite x; torch's operations give NaN where
    the variance overflows, in float32 from about 1e19.
    """
    if _is_compiled(x, gain, bias):
        return _LayerNorm.apply(x.contiguous(), gain, bias, epsilon)
    return _plain_layer_norm(x, gain, bias, epsilon)


def _plain_layer_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    if is_traced():  # the compiler fuses this form with its neighbours, in any memory layout
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=1, correction=0, keepdim=True)
        # Where the variance overflows, NaN and not 0.
        normalized = (wide - mean) * (torch.rsqrt(variance + epsilon) + 0 * variance)
        return (normalized * gain[:, None, None] + bias[:, None, None]).to(x.dtype)
    last = x.movedim(1, -1)
    if is_exporting():
        return functional.layer_norm(last, last.shape[-1:], gain, bias, epsilon).movedim(-1, 1)
    y, _, rate = torch.native_layer_norm(last, last.shape[-1:], gain, bias, epsilon)
    # Where the variance overflows, torch gives NaN or a rate of 0: make it NaN in both cases.
    return y.add_(0 / rate).movedim(-1, 1)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y = torch.empty_like(x)
        means, rates = x.new_empty(2, x.shape[0], *x.shape[2:]).unbind()
        _call(
            "layer_norm_forward", x, gain.contiguous(), bias.contiguous(), *_sizes(x), epsilon, y,
            means, rates,
        )  # fmt: skip
        ctx.save_for_backward(x, gain, bias, means, rates)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, gain, bias, means, rates = ctx.saved_tensors
        if needs_formula(grad):
            return *formula_gradients(
                lambda x, gain, bias: _plain_layer_norm(x, gain, bias, ctx.epsilon),
                (x, gain, bias),
                grad,
            ), None
        grad_x = torch.empty_like(x)
        partial_sums = x.new_zeros(torch.get_num_threads(), 2, x.shape[1])
        _call(
            "layer_norm_backward", x, gain.contiguous(), means, rates, grad.contiguous(),
            *_sizes(x), grad_x, partial_sums,
        )  # fmt: skip
        return grad_x, *partial_sums.sum(0).unbind(), None


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Return the numbers of images, channels and positions."""
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
