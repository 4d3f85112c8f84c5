"""Comparison of the CUDA kernels on the host with the CPU kernels, in every layout.

`python -m cuda_on_host.checks LIBRARY` does it in a process of its own, for the sanitizers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from cuda_on_host import launched_on_host
from flowpp.kernels.cpu import build as cpu_build
from flowpp.kernels.cpu import mixture_logistic as cpu
from flowpp.kernels.cuda import launch

SHAPE = (3, 5, 6, 7)  # 630 elements: nine blocks of 64 and a part of one, or more of fewer
FLOOR = -0.75
UNCONTRACTED = "-ffp-contract=off"
"""Products and sums are rounded one by one, in both builds: then they agree to the bit."""

ULPS = 1
"""Of max(1, |value|), allowed in float32: there the CUDA kernels have an exponential function of
their own, which is 0 instead of a subnormal number, and an approximate division."""
ROOT_ULPS = 8
"""Both find a root of their own, since they sum the components in different orders."""


def drawn(components: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return x, packed parameters, and gradients of y, log dy/dx and the leading numbers.

    Some elements are in the tails, some are not finite, and some log-scales are below the floor.
    """
    generator = torch.Generator().manual_seed(components)
    storage = torch.float32 if dtype is torch.bfloat16 else dtype
    x, by_y, by_l, *by_leading = torch.randn(5, *SHAPE, generator=generator, dtype=storage)
    packed = torch.randn(*SHAPE, 2 + 3 * components, generator=generator, dtype=storage)
    x[0, 0] *= 1e3
    x[1, 1, 2, :3] = torch.tensor([math.nan, math.inf, -math.inf])
    packed[2, 2, 3, 3, 2] = math.nan
    packed[2, 2, 3, 4, -1] = math.inf
    packed[2, 3, 3, 5, -1] = math.nan
    packed[2, 3, 3, 6, 2 + components] = -math.inf
    return x, packed.to(dtype), by_y, by_l, torch.stack(by_leading)


def layouts(packed: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield the same parameters in layouts of networks, of users, and in awkward ones."""
    yield "contiguous", [packed]
    batch, channels, height, width, values = packed.shape
    raw = packed.permute(0, 1, 4, 2, 3).reshape(batch, channels * values, height, width)
    for name, output in (
        ("channels first", raw.contiguous()),
        ("channels last", raw.to(memory_format=torch.channels_last)),
    ):
        split = output.reshape(batch, channels, values, height, width)
        yield name, [split.permute(0, 1, 3, 4, 2)]
    for offset in (1, 2, 3):
        base = packed.new_empty(packed.numel() + 8)
        shifted = base[offset : offset + packed.numel()].view(packed.shape)
        yield f"{offset} numbers after an aligned address", [shifted.copy_(packed)]
    yield "axes reversed", [packed.permute(3, 2, 1, 0, 4).contiguous().permute(3, 2, 1, 0, 4)]
    yield "every other", [torch.stack([packed, packed], -1)[..., 0]]
    padded = torch.cat([packed, packed[..., :1]], -1)
    yield "a gap after each row", [padded[..., :values]]


def separate(packed: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield logits, means and log-scales as three tensors."""
    count = packed.shape[-1] // 3
    views = list(packed.split([2, count, count, count], -1)[1:])
    yield "three views", views
    yield "three tensors", [v.contiguous() for v in views]
    yield "different strides", [views[0].contiguous(), views[1].mT.contiguous().mT, views[2]]


def computed(module, x, parameters, by_y, by_l, by_leading) -> dict[str, Tensor]:
    """Return everything that a module with `forward`, `backward` and `inverse` computes."""
    y, slope, leading = module.forward(x, parameters, FLOOR)
    if len(parameters) == 3:
        by_leading = by_leading[:0]
    by_x, *gradients = module.backward(x, parameters, FLOOR, by_y, by_l, by_leading)
    for gradient, parameter in zip(gradients, parameters, strict=True):
        assert gradient.stride() == torch.empty_like(parameter).stride()
        assert gradient.dtype is parameter.dtype
    root, residual, width, evaluations = module.inverse(x / 4, parameters, FLOOR, 1.0, 200)
    results = {"y": y, "log_derivative": slope, "by_x": by_x, "root": root}
    results |= {"residual": residual, "width": width, "evaluations": evaluations}
    if len(parameters) == 1:
        results |= {"leading": leading, "by_leading": gradients[0][..., :2]}
        gradients = gradients[0].split([2] + [gradients[0].shape[-1] // 3] * 3, -1)[1:]
    names = ("by_logits", "by_means", "by_log_scales")
    return results | dict(zip(names, gradients, strict=True))


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are equal, NaN in the same places included."""
    return (
        a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(0, math.inf, -math.inf), b.nan_to_num(0, math.inf, -math.inf))
    )


def errors(got: Tensor, expected: Tensor) -> Tensor:
    """Return |got - expected| in ulps of max(1, |expected|); 0 where both are NaN or equal."""
    eps = torch.finfo(expected.dtype).eps
    unit = eps * expected.abs().clamp(min=1)
    different = ~((got == expected) | (got.isnan() & expected.isnan()))
    return torch.where(different, (got - expected).abs() / unit, 0.0)


def check(library: Path, components: int, dtype: torch.dtype, *, order: int, error: int) -> None:
    """Assert that the results are the same in every layout, and those of the CPU kernels."""
    x, packed, *gradients = drawn(components, dtype)
    with launched_on_host(library, order=order, error=error):
        base = computed(launch, x, [packed], *gradients)
        for name, parameters in (*layouts(packed), *separate(packed)):
            for key, got in computed(launch, x, parameters, *gradients).items():
                assert same(got, base[key]), (name, key)
    expected = computed(cpu, x, [packed], *gradients)
    compare(base, expected)


def compare(results: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert that results are those of the CPU kernels: in float64, but for roots, to the bit.

    The CPU kernels must have been compiled without contraction of products and sums.
    """
    for key in ("y", "log_derivative", "by_x", "by_logits", "by_means", "by_log_scales"):
        got, want = results[key], expected[key]
        if got.dtype is torch.float64:
            assert same(got, want), key
        else:
            assert errors(got, want).max() <= ULPS, key  # NaN would fail
    for key in ("leading", "by_leading"):
        assert same(results[key], expected[key]), key
    assert errors(results["root"], expected["root"]).max() <= ROOT_ULPS
    x = expected["root"]
    assert results["evaluations"][x.isfinite()].min() >= 1
    assert results["evaluations"].max() <= 40 if x.dtype is torch.float32 else 65
    for key in ("residual", "width"):
        assert torch.equal(results[key].isnan(), expected[key].isnan()), key


def main() -> None:
    library = Path(sys.argv[1])
    cpu_build.FLAGS = (*cpu_build.FLAGS, UNCONTRACTED)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for components in (1, 3, 32):
            check(library, components, dtype, order=1, error=1)


if __name__ == "__main__":
    main()
