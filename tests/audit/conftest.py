from __future__ import annotations

import pytest
import torch

from conformance.audit import trained_model


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Use one thread: the tests make thousands of small calls, for which more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def run_directory(tmp_path_factory):
    """Train a model on digits for a few steps."""
    return trained_model.train_small(tmp_path_factory.mktemp("digits"), steps=6, seed=0)
