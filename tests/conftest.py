"""What all tests share."""

from __future__ import annotations

import hypothesis
import pytest
import torch

# Same examples in every run: a failure seen once can be seen again.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `slow` and `soak` tests unless asked for, `gpu` tests where there is no GPU."""
    without_gpu = pytest.mark.skip(reason="needs a CUDA device")
    slow = pytest.mark.skip(reason="takes minutes: run with -m slow")
    soak = pytest.mark.skip(reason="a test of endurance: run with -m soak")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(without_gpu)
        if "slow" in item.keywords and not config.getoption("-m"):
            item.add_marker(slow)
        if "soak" in item.keywords and "soak" not in config.getoption("-m"):
            item.add_marker(soak)
