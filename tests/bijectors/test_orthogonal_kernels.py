"""Kernels as matrices, and their orthogonal initialization."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flowpp.conditioner import Conv2d, GatedAttention, kernel_matrices, make_orthogonal
from flowpp.config.build import build_model
from flowpp.config.context_spec import ContextSpec
from tiny import TINY


def built(*, orthogonal=True, context=None):
    config = dataclasses.replace(TINY.model, orthogonal=orthogonal, augment=2)
    generator = torch.Generator().manual_seed(0)
    return build_model(config, (1, 8, 8), 17, generator, context=context)


def error(matrix):
    """Return the largest difference from orthonormal rows, or from columns if they are fewer."""
    matrix = matrix.detach().double()
    short = matrix if len(matrix) <= matrix.shape[1] else matrix.mT
    return (short @ short.mT - torch.eye(len(short))).abs().max().item()


@pytest.mark.parametrize(
    ("out", "channels", "kernel"), [(6, 4, 1), (4, 6, 1), (4, 2, 3), (32, 2, 3)]
)
def test_rows_or_columns_become_orthonormal(out, channels, kernel):
    torch.manual_seed(0)
    layer = Conv2d.create(channels, out, kernel)
    assert error(layer.weight.flatten(1)) > 0.1
    make_orthogonal(layer)
    assert error(layer.weight.flatten(1)) < 1e-6


def test_queries_keys_and_values_are_three_matrices():
    torch.manual_seed(0)
    layer = GatedAttention.create(8, 2)
    assert kernel_matrices(layer) == {"proj_in": 3, "proj_out": 1}
    make_orthogonal(layer)
    assert all(error(part.flatten(1)) < 1e-6 for part in layer.proj_in.weight.chunk(3))


@pytest.mark.parametrize(
    "context", [None, ContextSpec("images", "test", shape=(1, 4, 4))], ids=["no context", "images"]
)
def test_the_setting_reaches_every_network(context):
    model = built(context=context)
    counts = kernel_matrices(model)
    parts = {name.split(".")[0] for name in counts}
    assert parts >= {"flow", "dequantizer", "augmenter"}
    assert ("context_encoder" in parts) == (context is not None)
    for name, count in counts.items():
        for part in model.get_submodule(name).weight.chunk(count):
            assert error(part.flatten(1)) < 1e-5, name


def test_only_kernels_change():
    plain, orthogonal = built(orthogonal=False).state_dict(), built().state_dict()
    kernels = {f"{name}.weight" for name in kernel_matrices(built())}
    changed = {name for name, tensor in plain.items() if not torch.equal(tensor, orthogonal[name])}
    assert changed == kernels
