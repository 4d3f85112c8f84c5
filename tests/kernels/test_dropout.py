"""Dropout is applied where the released code applies it, with the reference's masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import to_reference
from flowpp.conditioner import Block, Conditioner, Conv2d, GatedAttention, GatedConv, GatedMaxout
from flowpp.training.initialization import initialize


def network(attention) -> Conditioner:
    torch.manual_seed(0)
    blocks = [Block(GatedConv.create(4, dropout=0.3), None, attention()) for _ in range(2)]
    position = torch.randn(4, 3, 2)
    return Conditioner(Conv2d.create(2, 4, 3), blocks, Conv2d.create(4, 6, 3), position).double()


@pytest.mark.parametrize(
    "attention",
    [lambda: GatedAttention.create(4, 2, dropout=0.3), lambda: GatedMaxout.create(4, dropout=0.3)],
    ids=["attention", "maxout"],
)
def test_output_with_the_references_masks(attention, monkeypatch):
    masks = np.random.default_rng(1)

    def drop(x, rate, training):
        assert training
        kept = torch.from_numpy(masks.random(tuple(x.shape)) >= rate)
        return torch.where(kept, x / (1 - rate), torch.zeros_like(x))

    model = network(attention).train()
    twin = to_reference(model)
    x = torch.randn(3, 2, 3, 2, dtype=torch.float64)
    expected = twin(x.numpy(), rng=np.random.default_rng(1))
    monkeypatch.setattr(torch.nn.functional, "dropout", drop)
    got = model(x).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert np.abs(expected - twin(x.numpy())).max() > 1e-3  # the masks have an effect


def test_no_dropout_in_evaluation():
    model = network(lambda: GatedAttention.create(4, 2, dropout=0.3)).eval()
    x = torch.randn(3, 2, 3, 2, dtype=torch.float64)
    assert torch.equal(model(x), model(x))


def test_initialization_uses_dropout_in_training_mode_only():
    """In evaluation mode the result is the reference's, which uses no dropout."""
    x = torch.randn(6, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    made = {}
    for mode in ("train", "eval"):
        model = getattr(network(lambda: GatedAttention.create(4, 2, dropout=0.3)), mode)()
        expected = to_reference(model).initialize(x.numpy())[0]
        initialize(model, x)
        made[mode] = model.proj_out.weight.detach().numpy(), expected.proj_out.weight
    np.testing.assert_allclose(*made["eval"], rtol=1e-12, atol=1e-14)
    ours, undropped = made["train"]
    assert np.abs(ours / undropped - 1).max() > 1e-3
