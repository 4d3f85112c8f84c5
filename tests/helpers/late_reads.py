"""Reading losses late, and making some of them non-finite.

torchrun late_reads.py OUT: train the tiny model twice in two processes, in OUT/1 with losses read
in each step, in OUT/100 with losses read late. Losses of rank 1 are not finite in steps 2 and 5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from flowpp.runtime import distributed
from flowpp.training import loop, step
from two_processes import config


class NonFinite:
    """Makes loss or gradient non-finite in chosen steps: {number of the step: "loss" ...}."""

    def __init__(self, kinds):
        self.kinds, self.number, self.computed = kinds, 0, 0

    def install(self, patch):
        step_method, compute = loop.Trainer.step, step.accumulate_gradients

        def numbered(trainer):
            self.number = trainer.state.step + 1
            step_method(trainer)

        def corrupted(model, *arguments):
            self.computed += 1
            loss = compute(model, *arguments)
            kind = self.kinds.get(self.number)
            if kind == "gradient":
                next(model.parameters()).grad.fill_(torch.inf)
            return {"loss": loss * torch.nan, "infinite": loss + torch.inf}.get(kind, loss)

        patch.setattr(loop.Trainer, "step", numbered)
        patch.setattr(step, "accumulate_gradients", corrupted)


def read_every(patch, steps, *, on_device=True):
    """Read the losses of this many steps together."""
    start = loop.TrainingStep.__init__

    def init(self, *arguments):
        start(self, *arguments)
        self.skips_on_device = on_device

    patch.setattr(loop.TrainingStep, "__init__", init)
    patch.setattr(loop, "steps_between_reads", lambda *_: steps)


def main() -> None:
    """Train both runs."""
    torch.set_num_threads(1)
    with distributed.process_group("cpu") as group:
        for steps in (1, 100):
            with pytest.MonkeyPatch.context() as patch:
                read_every(patch, steps)
                NonFinite(dict.fromkeys((2, 5), "loss") if group.rank == 1 else {}).install(patch)
                settings = config(7, dropout=0.2, log_every=3)
                loop.train(settings, Path(sys.argv[1]) / str(steps), group=group)


if __name__ == "__main__":
    main()
