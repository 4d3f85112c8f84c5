"""What distinguishes a CUDA device from the CPU; the emulated device has the same rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.gpu
ON = {"device": "cuda"}


def refused(message, function):
    with pytest.raises(RuntimeError, match=message):
        function()


def test_tensors_of_two_devices_do_not_mix():
    x = torch.ones(3, **ON)
    assert x.is_cuda and x.device == torch.device("cuda", 0)
    mixed = "device"
    refused(mixed, lambda: x + torch.ones(3))
    refused(mixed, lambda: torch.ones(2, 3) @ torch.ones(3, 2, **ON))
    refused(mixed, lambda: x.index_select(0, torch.tensor([0])))
    refused(mixed, lambda: torch.where(x > 0, x, torch.zeros(3)))
    refused(mixed, lambda: torch._foreach_add_([x, x.clone()], [x, torch.ones(3)]))
    refused(mixed, lambda: torch.cat([x, torch.ones(3)]))
    assert (x + torch.tensor(1.0)).is_cuda
    assert x[torch.tensor([0, 2])].is_cuda


def test_generators_belong_to_a_device():
    generator = torch.Generator()
    refused("generator", lambda: torch.randn(3, generator=generator, **ON))
    refused("generator", lambda: torch.ones(3, **ON).normal_(generator=generator))
    torch.cuda.manual_seed(5)
    before = torch.get_rng_state()
    one = torch.randn(3, **ON)
    assert torch.equal(torch.get_rng_state(), before)
    torch.cuda.manual_seed(5)
    assert torch.equal(torch.randn(3, **ON), one)


def test_numpy_needs_the_cpu():
    x = torch.arange(3, **ON)
    for read in (lambda: x.numpy(), lambda: np.asarray(x)):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            read()
    assert x.cpu().numpy().tolist() == x.tolist() == [0, 1, 2]


def test_gradients_views_and_changes_in_place():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, **ON)
    (x[:, 0] * x[:, 1]).sum().backward()
    assert x.grad.is_cuda and x.grad.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    row = x.detach()[1]
    row.mul_(0)
    assert x.tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_modules_move():
    layer = torch.nn.Linear(2, 2)
    expected = layer(torch.ones(1, 2))
    layer.to("cuda")
    assert all(p.is_cuda for p in layer.parameters())
    torch.testing.assert_close(layer(torch.ones(1, 2, **ON)).cpu(), expected)
    with torch.autocast("cuda", torch.bfloat16):
        assert layer(torch.ones(1, 2, **ON)).dtype == torch.bfloat16
    assert not next(layer.cpu().parameters()).is_cuda
