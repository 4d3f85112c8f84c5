"""Export to ONNX without its packages."""

from __future__ import annotations

import sys

import pytest

from flowpp.config import FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.interop import onnx

FLOW = FlowConfig(layout="channels 1", filters=2, blocks=1, components=1, heads=1)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_the_error_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    model = build_model(ModelConfig(flow=FLOW, dequantization="uniform"), (2, 4, 4), 4)
    with pytest.raises(ImportError, match=r"flowpp\[onnx\]"):
        onnx.log_prob(model, (2, 4, 4))
