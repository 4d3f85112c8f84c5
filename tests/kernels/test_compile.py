"""A compiled coupling has the values and gradients of the original."""

from __future__ import annotations

import pytest
import torch

from flowpp.config import FlowConfig
from flowpp.config.build import build_coupling

CONFIG = FlowConfig(filters=8, blocks=1, components=3, heads=2, dropout=0.0)


def results(function, coupling, x):
    x = x.clone().requires_grad_()
    y, log_det = function(x)
    loss = y.square().sum() - log_det.sum()
    return [y, log_det, *torch.autograd.grad(loss, [x, *coupling.parameters()])]


@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_a_compiled_coupling_equals_the_original(backend):
    torch.manual_seed(0)
    coupling = build_coupling(CONFIG, (2, 4, 4), None)
    x = torch.randn(2, 4, 4, 4)
    expected = results(coupling, coupling, x)
    torch._dynamo.reset()
    got = results(torch.compile(coupling, backend=backend), coupling, x)
    for value, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4)
