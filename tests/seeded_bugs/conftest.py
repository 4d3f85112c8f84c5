from __future__ import annotations

import pytest
import torch

from flowpp.kernels.backend import use_backend


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Thousands of small calls: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def torch_backend():
    """The bugs are sown in torch's formulas, which compiled kernels would pass by."""
    with use_backend("torch"):
        yield
