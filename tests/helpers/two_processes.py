"""torchrun two_processes.py [OUT STEPS DROPOUT new|resume|SOURCE] ...: train the tiny model.

They compute on $TRAINING_DEVICE, by default the CPU.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import torch

from flowpp.config import Config
from flowpp.runtime import distributed
from flowpp.training.loop import train
from tiny import TINY


def config(steps: int, *, dropout: float, accumulate: int = 1, log_every: int = 1) -> Config:
    """Return settings with two evaluations, the second after the last step."""
    model = dataclasses.replace(
        TINY.model,
        flow=dataclasses.replace(TINY.model.flow, dropout=dropout),
        dequantizer=dataclasses.replace(TINY.model.dequantizer, dropout=dropout),
    )
    settings = dataclasses.replace(
        TINY.training, steps=steps, evaluate_every=4, evaluation_images=200,
        accumulate=accumulate, log_every=log_every,
    )  # fmt: skip
    return dataclasses.replace(TINY, model=model, training=settings)


def main() -> None:
    """Train a run for each group of four arguments; SOURCE is a run to start from."""
    arguments = iter(sys.argv[1:])
    torch.set_num_threads(1)
    device = os.environ.get("TRAINING_DEVICE", "cpu")
    with distributed.process_group(device) as group:
        for out, steps, dropout, start in zip(*[arguments] * 4, strict=True):
            settings = config(int(steps), dropout=float(dropout))
            training = dataclasses.replace(
                settings.training, device=device, deterministic=device != "cpu"
            )
            result = train(
                dataclasses.replace(settings, training=training),
                Path(out),
                resume=start == "resume",
                init_from=None if start in ("new", "resume") else start,
                group=group,
            )
            if group.is_main:
                print(json.dumps(dataclasses.asdict(result)))


if __name__ == "__main__":
    main()
