from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import from_reference
from conformance.cases import CASES


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    """Use one thread, which is fastest for small arrays, and a fixed seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def flowpp_case(name: str, dtype: str = "float64"):
    """Build a case's bijector or model in flowpp, with fixed random parameters."""
    return from_reference(CASES[name].build(np.random.default_rng(0)), dtype)


@pytest.fixture
def coupling():
    """A mixture coupling of (4, 2, 3) images."""
    return flowpp_case("coupling/mixture_no_attention_with_context")


@pytest.fixture
def flow():
    """A small Flow++ flow from (1, 4, 4) pixels in [0, 256] to (4, 2, 2)."""
    return flowpp_case("flow/main")


@pytest.fixture
def model():
    """A model of (1, 4, 4) images of 32 levels, with variational dequantization."""
    return flowpp_case("flow_plus_plus/variational")


@pytest.fixture
def uniform_model():
    """A float32 model of (1, 4, 4) images, with uniform dequantization."""
    return flowpp_case("flow_plus_plus/uniform", "float32")
