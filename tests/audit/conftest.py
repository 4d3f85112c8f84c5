from __future__ import annotations

import pytest
import torch

from conformance.audit import flowpp_run


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Thousands of small calls: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def run_directory(tmp_path_factory):
    """A model trained on digits, hardly."""
    return flowpp_run.train_small(tmp_path_factory.mktemp("digits"), steps=6, seed=0)
