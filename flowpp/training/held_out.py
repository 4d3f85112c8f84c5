"""Evaluation of a run's averaged weights on held-out images, between its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowpp.config import TrainingConfig
from flowpp.data import ImageSet
from flowpp.evaluation.bound import Estimate, evaluate_bound
from flowpp.evaluation.diagnostics import Diagnosis, diagnose
from flowpp.evaluation.labelled_grids import Panel
from flowpp.evaluation.precision import evaluated_in
from flowpp.evaluation.sample_grids import training_panel
from flowpp.evaluation.spread import first_or_spread
from flowpp.model import FlowPlusPlus
from flowpp.root_finding import RootError
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.image_tensors import NonFiniteImageError
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.state import TrainingState


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation.

    Args:
        terms: Bound in bits per dimension and its terms.
        diagnosis: Round-trip errors and log-determinants; in rank 0 only.
        samples: Samples with their labels, in rank 0; None if the inverse failed.
    """

    terms: dict[str, Estimate]
    diagnosis: Diagnosis | None
    samples: Panel | None


def evaluate_held_out(
    state: TrainingState,
    images: ImageSet,
    settings: TrainingConfig,
    group: ProcessGroup,
    message: Callable[[str], None],
) -> Evaluation:
    """Evaluate, diagnose and sample with the averaged weights; noise and z are always the same.

    Args:
        state: State of the run; its model is in training mode afterwards.
        images: Data set.
        settings: Settings of the run.
        group: Processes among which the images of the bound are divided.
        message: Function that shows a line to the user.
    """
    model, held_out = state.model, images.held_out
    contexts = images.context_of(images.held_out_part)
    former = state.sequential_noise
    chosen = _chosen(images, settings.evaluation_images)
    diagnosis, samples = None, None
    with state.ema.applied(), evaluated_in(model):
        terms = evaluate_bound(
            model, held_out[chosen], seeded_generator(settings.seed), group,
            sequential_noise=former, contexts=None if contexts is None else contexts[chosen],
        )  # fmt: skip
        if group.is_main:
            diagnosis = diagnose(
                model, held_out, seeded_generator(settings.seed), sequential_noise=former,
                contexts=contexts,
            )  # fmt: skip
            samples = _samples(model, held_out, contexts, settings, message)
    model.train()
    return Evaluation(terms, diagnosis, samples)


def _chosen(images: ImageSet, count: int) -> slice | np.ndarray:
    """Return the held-out images to evaluate on: the first ones, of all classes."""
    contexts, available = images.context_of(images.held_out_part), len(images.held_out)
    if images.context is None or images.context.kind != "labels" or count >= available:
        return slice(count)
    assert contexts is not None
    return first_or_spread(count, contexts)


def _samples(
    model: FlowPlusPlus,
    held_out: np.ndarray,
    contexts: np.ndarray | None,
    settings: TrainingConfig,
    message: Callable[[str], None],
) -> Panel | None:
    """Return samples; None if the inverse fails, which should not end the run."""
    generator = seeded_generator(settings.seed)
    try:
        return training_panel(model, settings.sample_count, generator, held_out, contexts)
    except (ValueError, RootError, NonFiniteImageError) as error:
        message(f"no samples: {error}")
        return None
