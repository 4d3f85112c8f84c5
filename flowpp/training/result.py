"""Final evaluation of a run, written to result.json."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from flowpp.config import TrainingConfig
from flowpp.data import ImageSet
from flowpp.data.image_set import Part
from flowpp.evaluation import baselines, importance
from flowpp.evaluation.bound import Estimate
from flowpp.evaluation.contexts import label_rows
from flowpp.evaluation.per_class import as_record, from_record, per_class
from flowpp.objective import bits_per_dim
from flowpp.runs.run import Run
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.files import finite_or_null
from flowpp.training.non_finite import non_finite_weight
from flowpp.training.state import TrainingState

INITIAL_SHARE = 0.05
"""Share of the initial weights in the average above which a note is given."""
KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "float | None": (int, float, type(None)),
    "str | None": (str, type(None)),
    "dict[str, dict[str, Any]] | None": (dict, type(None)),
}


@dataclass(frozen=True)
class Result:
    """Contents of result.json; bounds and codes in bits per dimension of the held-out images."""

    bits_per_dim: float | None
    """One-sample bound of the averaged weights on all held-out images; None if not finite."""
    standard_error: float | None
    """Standard error of `bits_per_dim` over the images; None if not finite."""
    uniform: float
    """Code length of a uniform distribution."""
    histogram: float
    """Code length of independent pixels, see `evaluation.baselines`."""
    steps: int
    """Number of training steps."""
    seconds: float
    """Time for initialization, training and evaluations, without loading and building."""
    samples: str | None
    """File of the last sample grid; None if no samples could be drawn."""
    precision: str | None = None
    """Precision of the evaluation; None in results of version 0.1.0, which did not record it."""
    stopped: str | None = None
    """Why training ended before `training.steps`; None if it did not."""
    augmentation: str | None = None
    """How training images were changed at random, if they were."""
    held_out: str = "test"
    """Images behind `bits_per_dim`."""
    valid_bits_per_dim: float | None = None
    """The same bound on the validation images, by which the best checkpoint is chosen; None if
    there are no validation images apart from the test images."""
    valid_standard_error: float | None = None
    """Standard error of `valid_bits_per_dim`."""
    failure: str | None = None
    """Why `bits_per_dim` is None."""
    per_class: dict[str, dict[str, Any]] | None = None
    """`bits_per_dim`, `standard_error` and `count` of the held-out images of each class, by name;
    None without labels."""
    without_label: float | None = None
    """The same bound with label "none" for all images, a bound on P(x); None if the model was not
    trained with it, see `training.label_dropout`."""
    without_label_standard_error: float | None = None
    """Standard error of `without_label`."""

    def classes(self) -> dict[str, Estimate] | None:
        """Return `per_class` as estimates; NaN where a number is not finite."""
        if self.per_class is None:
            return None
        return from_record(self.per_class)

    @classmethod
    def of(cls, recorded: dict[str, Any], run: Run) -> Result:
        """Return the contents of a run's result.json; the run may have been moved since.

        Raises:
            TypeError: values are missing, unknown, or of another type.
        """
        result = cls(**recorded)
        for entry in fields(cls):
            value, kinds = getattr(result, entry.name), KINDS[str(entry.type)]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{entry.name} must be {entry.type}, got {type(value).__name__}")
        picture = run.sample_path(result.steps)
        return replace(result, samples=str(picture) if picture.is_file() else None)


def final_result(
    state: TrainingState,
    run: Run,
    images: ImageSet,
    settings: TrainingConfig,
    *,
    group: ProcessGroup,
    stopped: str | None = None,
) -> Result:
    """Evaluate the averaged weights on all held-out images, in float32.

    Args:
        state: State after the last step.
        run: The run.
        images: Data set.
        settings: Settings of the run: seed of the noise, and probability of label "none".
        group: Processes among which the images are divided.
        stopped: Why training ended before its last step, if it did.
    """
    valid, unlabelled, spec = None, None, images.context
    labels, classes = images.context_of("test"), None

    def bound(part: Part, contexts: np.ndarray | None) -> np.ndarray:
        return importance.importance_log_probs(
            state.model, images.part(part), 1, seed=settings.seed, group=group, contexts=contexts
        )[1]

    with state.ema.applied():
        nats = bound("test", labels)
        if images.valid is not None:
            valid = _estimate(bound("valid", images.context_of("valid")), images)
        if spec is not None and spec.kind == "labels" and labels is not None:
            classes = per_class(nats, labels, spec, images.train[0].size)
            if settings.label_dropout:
                none = label_rows(spec, spec.none_label, len(labels))
                unlabelled = _estimate(bound("test", none), images)
    found = _estimate(nats, images)
    picture = run.sample_path(state.step)
    return Result(
        bits_per_dim=finite_or_null(found.mean),
        standard_error=finite_or_null(found.standard_error),
        uniform=baselines.uniform_code(images),
        histogram=baselines.histogram_code(images),
        steps=state.step,
        seconds=state.elapsed(),
        samples=str(picture) if picture.is_file() else None,
        precision="float32",
        stopped=stopped,
        valid_bits_per_dim=None if valid is None else finite_or_null(valid.mean),
        valid_standard_error=None if valid is None else finite_or_null(valid.standard_error),
        failure=None if found.is_finite else _failure(state, found),
        per_class=None if classes is None else as_record(classes),
        without_label=None if unlabelled is None else finite_or_null(unlabelled.mean),
        without_label_standard_error=(
            None if unlabelled is None else finite_or_null(unlabelled.standard_error)
        ),
    )


def _estimate(nats: np.ndarray, images: ImageSet) -> Estimate:
    return Estimate.of(bits_per_dim(torch.from_numpy(nats), images.train[0].size))


def _failure(state: TrainingState, bound: Estimate) -> str:
    """Describe a run whose final bound is NaN or infinite."""
    with state.ema.applied():
        weight = non_finite_weight(state.model)
    cause = f": the averaged weight {weight} is not finite" if weight else ""
    return f"the bits/dim of the averaged weights are {bound.mean} at step {state.step}{cause}"


def average_note(settings: TrainingConfig, steps: int) -> str | None:
    """Return a note if the averaged weights are still close to those before the first step."""
    share = settings.ema_decay**steps
    if share < INITIAL_SHARE:
        return None
    needed = math.ceil(math.log(INITIAL_SHARE) / math.log(settings.ema_decay))
    return (
        f"{share:.0%} of the averaged weights are still those before the first step: "
        f"with training.ema_decay {settings.ema_decay} use at least {needed} steps, or lower it"
    )
