"""Equality of two runs, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch

from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.run import Run


def same_checkpoint(a: Checkpoint, b: Checkpoint) -> None:
    """Assert that two checkpoints are equal in everything but seconds and settings."""
    for kind in ("weights", "ema", "state"):
        left, right = getattr(a, kind), getattr(b, kind)
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            assert torch.equal(tensor.nan_to_num(), right[name].nan_to_num()), name
            assert torch.equal(tensor.isnan(), right[name].isnan()), name
    facts = [{k: v for k, v in c.facts.items() if k not in ("seconds", "config")} for c in (a, b)]
    assert facts[0] == facts[1] and a.step == b.step


def same_state(one: Path, other: Path) -> bool:
    """Assert that two runs are equal in everything but their timings."""
    same_checkpoint(Run.open(one).load_checkpoint(), Run.open(other).load_checkpoint())
    metrics = [
        [{k: v for k, v in r.items() if k != "images_per_second"} for r in Run.open(p).metrics()]
        for p in (one, other)
    ]
    assert metrics[0] == metrics[1]
    best = [Checkpoint.load(Run.open(path).best_path) for path in (one, other)]
    assert best[0].step == best[1].step
    return True
