"""Precision in which a model is evaluated: float32 unless another is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flowpp.conditioner import Conditioner
from flowpp.config.build import compute_dtype, float32_meaning
from flowpp.config.settings import Precision
from flowpp.model import FlowPlusPlus
from flowpp.runtime.precision import float32_precision


@contextmanager
def evaluated_in(model: FlowPlusPlus, precision: Precision = "float32") -> Iterator[None]:
    """Compute a model in this precision inside the block, whatever it was trained in.

    Args:
        model: the model; its networks have their former precision again after the block.
        precision: see `TrainingConfig.precision`.
    """
    networks = [module for module in model.modules() if isinstance(module, Conditioner)]
    before = [network.compute_dtype for network in networks]
    try:
        for network in networks:
            network.compute_dtype = compute_dtype(precision)
        with float32_precision(float32_meaning(precision)):
            yield
    finally:
        for network, dtype in zip(networks, before, strict=True):
            network.compute_dtype = dtype
