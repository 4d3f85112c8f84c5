"""Settings: dataclasses, presets, and the builder that makes a model of them."""

from flowpp.config.settings import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)

__all__ = [
    "Config",
    "ContextConfig",
    "DataConfig",
    "FlowConfig",
    "ModelConfig",
    "TrainingConfig",
]
