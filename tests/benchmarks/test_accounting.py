"""Kernels and bytes of a training step, counted without a GPU."""

from __future__ import annotations

import pytest
import torch

from flowpp.benchmark.accounting import CHUNK, Cost, CostCounter, list_launches, step_cost
from flowpp.config import presets


def test_an_operation_moves_its_arguments_and_results():
    x, y = torch.zeros(2, 3, 5).unbind()
    with CostCounter() as counter:
        z = x + y
        z.T.reshape(-1)  # a view, and a copy
        torch.empty_like(z)
    assert counter.cost == Cost(2, 2, 4 * (3 * 15 + 2 * 15))


def test_an_expanded_argument_is_read_once():
    x = torch.zeros(3, 5)
    with CostCounter() as counter:
        x + torch.zeros(5).expand(3, 5)
    assert counter.cost.bytes - 4 * 5 == 4 * (15 + 5 + 15)  # and the zeros are written


@pytest.mark.parametrize(
    ("sizes", "lists", "launches"),
    [([], 1, 0), ([1], 1, 1), ([1] * 110, 1, 1), ([1] * 111, 1, 2), ([1] * 49, 3, 2),
     ([CHUNK * 320], 2, 1), ([CHUNK * 320 + 1], 2, 2)],
)  # fmt: skip
def test_launches_of_operations_on_lists(sizes, lists, launches):
    assert list_launches(sizes, lists) == launches


def test_a_bfloat16_step_converts_weights_once_a_network():
    config = presets.get("digits")
    cost = {
        precision: step_cost(
            config, (1, 8, 8), 17, batch_size=4, precision=precision, compiled=False
        ).rest
        for precision in ("float32", "bfloat16")
    }
    # Ten networks' inputs, contexts and outputs, forward and backward, besides the weights.
    extra = cost["bfloat16"].operations - cost["float32"].operations
    assert 0 < extra < 120


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_step_of_the_cifar10_model_moves_at_most_55_gigabytes():
    cost = step_cost(presets.get("cifar10"), (3, 32, 32), 256).total
    assert cost.bytes <= 55e9
    assert cost.kernels <= 6000  # the goal of 3,500 is missed: docs/gpu.md
