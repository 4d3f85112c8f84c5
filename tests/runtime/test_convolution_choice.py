"""When cuDNN may choose convolutions by timing them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flowpp.config import presets
from flowpp.runtime.determinism import deterministic_algorithms, fastest_convolutions
from flowpp.training.gradients import times_convolutions

CUDNN = torch.backends.cudnn


@pytest.mark.parametrize("enabled", [True, False])
def test_the_choice_ends_with_the_block(enabled):
    before = CUDNN.benchmark
    with pytest.raises(ZeroDivisionError), fastest_convolutions(enabled=enabled):
        assert CUDNN.benchmark == (before or enabled)
        raise ZeroDivisionError
    assert CUDNN.benchmark == before


def test_deterministic_algorithms_are_not_chosen_by_timing():
    with deterministic_algorithms(enabled=True), fastest_convolutions(enabled=True):
        assert not CUDNN.benchmark


@pytest.mark.parametrize(
    ("device", "precision", "deterministic", "expected"),
    [
        ("cuda", "bfloat16", False, True),
        ("cuda", "bfloat16", True, False),
        ("cuda", "float32", False, False),
        ("cpu", "bfloat16", False, False),
    ],
)
def test_only_half_precision_on_a_gpu(device, precision, deterministic, expected):
    settings = dataclasses.replace(
        presets.get("cifar10").training, precision=precision, deterministic=deterministic
    )
    assert times_convolutions(settings, torch.device(device)) is expected
