"""Settings are checked on creation and on reading; errors name them."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from flowpp.config import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)
from flowpp.config.build import build_model
from flowpp.config.layout import only_split
from flowpp.config.serialization import from_dict, to_dict

NAN, INF = float("nan"), float("inf")
WITHOUT_CONVOLUTION = functools.partial(FlowConfig, convolution="none")
AFFINE = functools.partial(FlowConfig, coupling="affine")


@pytest.mark.parametrize(
    ("cls", "field", "value", "message"),
    [
        (FlowConfig, "filters", 0, "filters must be at least 1, got 0"),
        (FlowConfig, "blocks", -1, "blocks must be at least 0, got -1"),
        (FlowConfig, "components", 0, "components must be at least 1, got 0"),
        (FlowConfig, "heads", 0, "heads must be at least 1, got 0"),
        (FlowConfig, "dropout", 1.0, r"dropout must lie in \[0, 1\), got 1.0"),
        (FlowConfig, "dropout", -0.1, r"dropout must lie in \[0, 1\), got -0.1"),
        (FlowConfig, "dropout", NAN, r"dropout must lie in \[0, 1\), got nan"),
        (FlowConfig, "log_scale_floor", NAN, "log_scale_floor must be finite, got nan"),
        (FlowConfig, "log_scale_floor", -INF, "log_scale_floor must be finite, got -inf"),
        (FlowConfig, "layout", "rows 4", "got 'rows 4'"),
        (FlowConfig, "coupling", "spline", "coupling must be one of mixture, affine, got 'spl"),
        (FlowConfig, "attention", "some", "attention must be one of attention, maxout, none, go"),
        (FlowConfig, "convolution", "full", "convolution must be one of halves, joint, lu, none"),
        (FlowConfig, "act_norm", "batch", "act_norm must be one of activation, channel, got 'ba"),
        (WITHOUT_CONVOLUTION, "whiten", True, "whiten must be False for convolution none, got T"),
        (AFFINE, "spread", True, "spread must be False for coupling affine, got True"),
        (ContextConfig, "filters", 0, "filters must be at least 1, got 0"),
        (ContextConfig, "blocks", -2, "blocks must be at least 0, got -2"),
        (ContextConfig, "attention", "all", "attention must be one of"),
        (
            ModelConfig,
            "dequantization",
            "none",
            "must be one of variational, truncated-normal, uniform, got 'none",
        ),
        (DataConfig, "source", "mnist", "data.source must be one of digits, .*, got 'mnist'"),
        (DataConfig, "held_out", "train", "data.held_out must be one of test, valid, got 'train"),
        (DataConfig, "size", 0, "data.size must be at least 1, got 0"),
        (DataConfig, "bits", 0, r"data.bits must lie in 1 \.\.\. 16, got 0"),
        (DataConfig, "bits", 17, r"data.bits must lie in 1 \.\.\. 16, got 17"),
        (TrainingConfig, "seed", -1, "training.seed must be at least 0 and below"),
        (TrainingConfig, "seed", 2**70, r"training.seed must be at least 0 and below 2\^63, got"),
        (TrainingConfig, "threads", 10**12, "training.threads must be at most 1024, got 1000000"),
        (TrainingConfig, "threads", 0, "training.threads must be at least 1, got 0"),
    ],
)
def test_a_setting_out_of_range_is_named(cls, field, value, message):
    with pytest.raises(ValueError, match=message):
        cls(**{field: value})


def test_optional_settings_may_be_none():
    assert FlowConfig(log_scale_floor=None).log_scale_floor is None
    assert DataConfig(size=None).size is None
    assert TrainingConfig(threads=None).threads is None


@pytest.mark.parametrize(
    "layout",
    [
        "squeeze, channels 2",
        "factor, columns 2",
        "columns 2, squeeze, channels 2",
        "columns 2, checkerboard 2",
        "columns 2, factor, columns 1",
    ],
)
def test_a_dequantizer_has_splits_of_one_kind(layout):
    with pytest.raises(ValueError, match="one kind of split only, one of columns N, .* got '"):
        ModelConfig(dequantizer=FlowConfig(layout=layout))
    # Uniform dequantization does not use the layout.
    ModelConfig(dequantization="uniform", dequantizer=FlowConfig(layout=layout))


@pytest.mark.parametrize("layout", ["columns 1", "checkerboard 1", "channels 1, channels 1"])
def test_any_one_kind_of_split_is_accepted(layout):
    flow = FlowConfig(layout=layout, filters=4, blocks=1, components=1)
    model = build_model(ModelConfig(flow, dequantizer=flow), (2, 4, 4), 8)
    assert type(model.dequantizer.split).__name__.lower().startswith(only_split(layout)[:7])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": 3}, "^preset must be str, got 3"),
        ({"model": {"flow": {"filters": "96"}}}, "^model.flow.filters must be int, got '96'"),
        ({"model": {"flow": {"filters": True}}}, "^model.flow.filters must be int, got True"),
        ({"model": {"flow": {"filters": 9.5}}}, "^model.flow.filters must be int, got 9.5"),
        ({"model": {"flow": {"dropout": None}}}, "^model.flow.dropout must be float, got None"),
        ({"model": {"flow": {"weight_norm": 1}}}, "^model.flow.weight_norm must be bool, got 1"),
        ({"model": {"dequantizer": []}}, r"^model.dequantizer must be a dictionary, got \[\]"),
        ({"model": {"context": {"attention": 0}}}, "^model.context.attention must be one of att"),
        ({"data": {"path": 7}}, "^data.path must be str or None, got 7"),
        ({"training": {"threads": "2"}}, "^training.threads must be int or None, got '2'"),
        ({"model": {"flow": {"filters": 0}}}, "^model.flow: filters must be at least 1, got 0"),
        ({"model": {"flow": {"width": 0}}}, r"^model.flow: FlowConfig has no field \['width'\]"),
        ([], "^Config must be a dictionary"),
    ],
)
def test_a_stored_setting_of_another_type_is_named_with_its_path(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Config, values)


def test_integers_are_accepted_for_floats():
    stored = to_dict(Config())
    stored["model"]["flow"]["log_scale_floor"] = -7
    stored["training"]["max_grad_norm"] = 1
    assert from_dict(Config, stored) == Config()


def test_every_settings_class_is_checked():
    for cls in (FlowConfig, ContextConfig, ModelConfig, DataConfig, TrainingConfig):
        assert "__post_init__" in vars(cls) and dataclasses.is_dataclass(cls)
