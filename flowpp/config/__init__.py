"""Settings: typed dataclasses, presets, their command line and their JSON form.

Importing this package does not import torch; `flowpp.config.build`, which makes a model from
settings, does.
"""

from flowpp.config.context_spec import ConditionConfig, ContextSpec
from flowpp.config.settings import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)

__all__ = [
    "ConditionConfig",
    "Config",
    "ContextConfig",
    "ContextSpec",
    "DataConfig",
    "FlowConfig",
    "ModelConfig",
    "TrainingConfig",
]
