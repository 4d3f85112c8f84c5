from __future__ import annotations

import pytest
import torch

from flowpp.kernels.backend import use_backend


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread: for thousands of small calls more threads only add overhead."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def torch_backend():
    """Use torch's formulas, which the bugs are seeded in; compiled kernels would bypass them."""
    with use_backend("torch"):
        yield
