"""Flow++ in PyTorch.

Ho, Chen, Srinivas, Duan, Abbeel, "Flow++: Improving Flow-Based Generative Models with Variational
Dequantization and Architecture Design", ICML 2019. Equation numbers in docstrings are the paper's.

A trained model:

>>> model = flowpp.load("runs/mine")           # doctest: +SKIP
>>> nats = model.log_prob(images)              # doctest: +SKIP
>>> images = model.sample(16, temperature=0.9) # doctest: +SKIP
>>> z = model.encode(images)                   # doctest: +SKIP
>>> images = model.decode(z)                   # doctest: +SKIP

A pretrained model of the package, by its name:

>>> model = flowpp.load("digits")              # doctest: +SKIP

Training on images in memory:

>>> model = flowpp.fit(images, out="runs/mine", steps=1000) # doctest: +SKIP

A fresh model for a data set:

>>> from flowpp import data
>>> from flowpp.config import presets
>>> config = presets.get("digits")
>>> images = data.load(config.data)
>>> model = flowpp.build_model(config.model, images.shape, images.levels) # doctest: +SKIP

`python -m flowpp` lists the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from flowpp.config import ContextSpec, ModelConfig
    from flowpp.model import FlowPlusPlus
    from flowpp.trained_model import TrainedModel

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m flowpp.COMMAND, whose imports begin now
    from flowpp.runtime.interrupts import exit_at_once_while_importing

    exit_at_once_while_importing()


def load(run: Path | str, **options: Any) -> TrainedModel:
    """Load a model from a run, a checkpoint or the package; see `trained_model.load`."""
    from flowpp import trained_model  # here, because importing torch takes seconds

    return trained_model.load(run, **options)


def fit(images: Any, **options: Any) -> TrainedModel:
    """Train on images in memory; see `flowpp.in_memory.fit`.

    It is not called `train`, which is the module of the command `python -m flowpp.train`.
    """
    from flowpp import in_memory  # here, because importing torch takes seconds

    return in_memory.fit(images, **options)


def build_model(
    config: ModelConfig,
    image_shape: tuple[int, int, int],
    levels: int,
    generator: torch.Generator | None = None,
    context: ContextSpec | None = None,
) -> FlowPlusPlus:
    """Build a model with fresh random weights; see `flowpp.config.build.build_model`."""
    from flowpp.config import build  # here, because importing torch takes seconds

    return build.build_model(config, image_shape, levels, generator, context)
