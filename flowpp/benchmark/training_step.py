"""The trainer's own step on random images, as `python -m flowpp.train` does it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.config import Config
from flowpp.data import ImageSet
from flowpp.runs.run import Run
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.runtime.signals import DeferredSignals
from flowpp.training.captured_step import WARM_UP
from flowpp.training.compiled_blocks import compile_blocks
from flowpp.training.loop import Trainer
from flowpp.training.run_logger import RunLogger
from flowpp.training.setup import initial_state, prepare

Shape = tuple[int, int, int]
FIRST_STEPS = WARM_UP + 1
"""Steps on a CUDA device until the step is replayed from a graph, if it is."""
BATCHES = 4
"""Number of batches in the set of random images."""
NEVER = 1 << 40
"""Steps of a run, and between log lines and evaluations: more than are measured."""


class TrainerStep:
    """A training step that can be called any number of times.

    Weights, optimizer, average and batches are those of a training run that has just begun:
    prepared, moved to the device, initialized, compiled and captured in the same order. No files
    are written.

    Args:
        config: Settings; `config.training` names device, precision, batch size and all else that
            decides how a step is computed.
        shape: Channels, height and width of the images.
        levels: Number of values of a channel.
        rate: Learning rate; by default so small that the steps do not change the model.

    Attributes:
        notes: Lines that training would have shown, such as that nothing could be compiled.
    """

    def __init__(self, config: Config, shape: Shape, levels: int, *, rate: float = 1e-12) -> None:
        batch = config.training.batch_size
        training = replace(
            config.training,
            learning_rate=rate,
            # Data-dependent initialization needs more than one image.
            init_batch_size=max(2, batch),
            steps=NEVER,
            log_every=NEVER,
            evaluate_every=NEVER,
            checkpoint_every=None,
            checkpoint_minutes=float(NEVER),
        )
        config = replace(config, training=training)
        images = random_images(max(2, BATCHES * batch), shape, levels)
        group = SINGLE_PROCESS
        _, model = prepare(config, images=images)
        state, inputs = initial_state(config, images, model, group, None)
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder))
            logger = _Notes(run, NEVER, 0, silent=True)
            self.trainer = Trainer(
                config, run, images, state, inputs, group, DeferredSignals(), logger
            )
        compile_blocks(model, shape, training, group, logger.message)
        self.notes = logger.notes
        if state.device.type == "cuda":
            for _ in range(FIRST_STEPS):
                self()

    def __call__(self) -> None:
        """Do one step."""
        self.trainer.step()


class _Notes(RunLogger):
    """Log that keeps its messages only."""

    def __init__(self, *arguments: Any, silent: bool) -> None:
        super().__init__(*arguments, silent=silent)
        self.notes: list[str] = []

    def message(self, line: str) -> None:
        self.notes.append(line)


def random_images(count: int, shape: Shape, levels: int) -> ImageSet:
    """Return a data set of uniformly distributed values, the same in each call."""
    draws = np.random.default_rng(0).integers(levels, size=(count, *shape), dtype=np.uint8)
    return ImageSet("random", draws, draws[:1], levels)
