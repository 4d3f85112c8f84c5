"""What a run ends with."""

from __future__ import annotations

from dataclasses import dataclass

from flowpp.data import ImageSet
from flowpp.evaluation import baselines, importance
from flowpp.runs.run import Run
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.state import TrainingState


@dataclass(frozen=True)
class Result:
    """result.json of a run; bits per dimension of the held-out images."""

    bits_per_dim: float
    """One-sample bound with averaged weights, over the whole test split."""
    standard_error: float
    uniform: float
    histogram: float
    steps: int
    seconds: float
    """Initialization, training and evaluations; not loading data and building the model."""
    samples: str
    """The last sample grid."""


def final_result(
    state: TrainingState, run: Run, images: ImageSet, *, seed: int, group: ProcessGroup
) -> Result:
    """The bound over all held-out images, beside codes that need no model.

    Args:
        state: after its last step.
        run: where its samples lie.
        images: what it was trained on, with the held-out ones.
        seed: of the evaluation's noise.
        group: the processes, which share the images among them.
    """
    with state.ema.applied():
        bounds = importance.importance_bounds(state.model, images.test, 1, seed=seed, group=group)
    return Result(
        bits_per_dim=bounds[1].mean,
        standard_error=bounds[1].standard_error,
        uniform=baselines.uniform_code(images),
        histogram=baselines.histogram_code(images),
        steps=state.step,
        seconds=state.elapsed(),
        samples=str(run.sample_path(state.step)),
    )
