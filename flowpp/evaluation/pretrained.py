"""Checkpoint file of a pretrained model: rounded weights, and a receipt of what they reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flowpp.bijectors import Bijector
from flowpp.data import ImageSet
from flowpp.evaluation.bound import Estimate, not_finite
from flowpp.evaluation.importance import importance_bounds
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.environment import check_images, describe
from flowpp.runs.open_model import load_images, model_facts, open_model
from flowpp.runs.pretrained import check_name
from flowpp.runtime.hashing import weights_hash

STORED = "moving average, networks rounded to bfloat16"


def pretrained_checkpoint(
    run: Path,
    name: str,
    *,
    data_path: str | None = None,
    which: Literal["newest", "best"] = "newest",
    samples: int = 1,
) -> Checkpoint:
    """Round a run's averaged weights, see `rounded`, and evaluate them on its held-out images.

    The receipt is the same whenever it is computed by the same versions on the same machine.

    Args:
        run: a run directory.
        name: name of the pretrained model.
        data_path: path of the data set, if it has moved since training.
        which: the checkpoint of the run: the newest, or the best on held-out images.
        samples: number of importance samples per image.

    Returns:
        Weights, and the facts that `open_model` needs, `data_sha256`, `weights` (how they were
        made), `name` and `receipt`.

    Raises:
        FileNotFoundError, ValueError: a name of another form; a run or data set that is missing or
            damaged, or other images than the run's; a bound that is not finite.
    """
    check_name(name)
    opened = open_model(run, which=which)
    images = load_images(opened.config, data_path)
    check_images(run, images, opened.image_shape, opened.model.levels)
    seed, model = opened.config.training.seed, opened.model
    contexts = images.context_of("test")
    unrounded = importance_bounds(model, images.test, 1, seed=seed, contexts=contexts)[1]
    weights = rounded(model)
    checkpoint = Checkpoint(
        opened.checkpoint.step, weights, {}, {},
        model_facts(
            replace(opened.config, data=replace(opened.config.data, path=None)),
            opened.image_shape, model.levels, model.context_spec,
        ),
    )  # fmt: skip
    checkpoint.restore(model, average=False)
    bounds = importance_bounds(model, images.test, samples, seed=seed, contexts=contexts)
    valid = None
    if images.valid is not None:
        valid = importance_bounds(
            model, images.valid, 1, seed=seed, contexts=images.context_of("valid")
        )[1]
    if problem := not_finite(bounds):
        raise ValueError(f"{run}: {problem}")
    receipt = _receipt(checkpoint, images, bounds, valid, unrounded, seed)
    facts = {"name": name, "weights": STORED, "data_sha256": images.sha256, "receipt": receipt}
    return replace(checkpoint, facts={**checkpoint.facts, **facts})


def rounded(model: FlowPlusPlus) -> dict[str, Tensor]:
    """Return the state of a model with the parameters of its networks in bfloat16.

    Numerics: parameters of the bijectors themselves, gains, biases and 1x1 matrices, act on every
    number of the image, and errors in them add up. Rounded too, they would cost 0.051 bits/dim,
    those of the networks cost 0.0002 (`small` on CIFAR-10 after 12,000 steps).
    """
    networks = {name for name, _ in model.named_parameters()} - {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, Bijector)
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        name: tensor.to(torch.bfloat16) if name in networks else tensor
        for name, tensor in model.state_dict().items()
    }


def is_same(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether two checkpoints have the same weights and facts."""
    return (
        (a.step, a.facts) == (b.step, b.facts)
        and weights_hash(a.weights) == weights_hash(b.weights)
        and not (a.ema or a.state or b.ema or b.state)
    )


def _receipt(
    checkpoint: Checkpoint,
    images: ImageSet,
    bounds: Mapping[int, Estimate],
    valid: Estimate | None,
    unrounded: Estimate,
    seed: int,
) -> dict[str, Any]:
    """Return plain values: figures, what they belong to, and how they were computed."""
    versions = describe(torch.device("cpu"), seed, images)["versions"]
    return {
        "unit": "bits per dimension, an upper bound on -log2 P(x) / D",
        "protocol": "stored weights (networks rounded to bfloat16), computed in float32, on all "
        "held-out images, with the noise of `seed`",
        "bounds": [{"importance_samples": n, **asdict(bound)} for n, bound in bounds.items()],
        "valid": None if valid is None else asdict(valid),
        "before_rounding": unrounded.mean,
        "seed": seed,
        "steps": checkpoint.step,
        "parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "data": {
            "name": images.name,
            "sha256": images.sha256,
            "shape": list(images.shape),
            "levels": images.levels,
            "train": len(images.train),
            "valid": 0 if images.valid is None else len(images.valid),
            "held_out": len(images.test),
        },
        "versions": {name: versions[name] for name in ("flowpp", "torch")},
    }
