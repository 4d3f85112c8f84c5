"""Typed settings of a run: model, data, training.

Everything is a frozen dataclass of plain values, so that a run's settings are printable,
comparable, storable as JSON and reachable from the command line (`--model.flow.filters 8`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from flowpp.schedule import parse_schedule

Attention = Literal["attention", "maxout", "none"]
Coupling = Literal["mixture", "affine"]
Convolution = Literal["halves", "joint", "lu", "none"]
ActNormKind = Literal["activation", "channel"]
Dequantization = Literal["variational", "uniform"]
Source = Literal["digits", "photos", "cifar10", "imagenet32", "imagenet64", "folder"]


@dataclass(frozen=True)
class FlowConfig:
    """One chain of couplings, and the networks inside them.

    `layout` reads like the paper: "columns 4, squeeze, channels 2, columns 3" means four couplings
    over column stripes, a squeeze, two over channel halves, three over column stripes. Words:
    `columns N`, `checkerboard N`, `channels N`, `squeeze`, and `factor` (half of the channels
    leave for the prior; what follows acts on the other half).
    """

    layout: str = "columns 4, squeeze, channels 2, columns 3"
    coupling: Coupling = "mixture"
    filters: int = 96
    blocks: int = 10
    components: int = 32
    heads: int = 4
    attention: Attention = "attention"
    dropout: float = 0.2
    log_scale_floor: float | None = -7.0
    """Floor under the mixture's log-scales, as in the released code; None for no floor."""
    weight_norm: bool = False
    activate_last: bool = False
    """concat-ELU before a coupling network's last convolution (the released ImageNet family)."""
    convolution: Convolution = "halves"
    act_norm: ActNormKind = "activation"


@dataclass(frozen=True)
class ContextConfig:
    """The network that shows the image to the variational dequantizer."""

    filters: int = 32
    blocks: int = 3
    layer_norm: bool = False
    attention: Attention = "none"


@dataclass(frozen=True)
class ModelConfig:
    """A Flow++ model: a dequantizer and a flow."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    dequantization: Dequantization = "variational"
    dequantizer: FlowConfig = field(
        default_factory=lambda: FlowConfig(layout="columns 4", blocks=2)
    )
    context: ContextConfig = field(default_factory=ContextConfig)


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are cut."""

    source: Source = "digits"
    path: str | None = None
    """Where the images lie; `digits` and `photos` need none.

    cifar10: the folder `cifar-10-batches-py`, its tar archive, or an `.npz`. imagenet32,
    imagenet64: the folder of the PNG archives or of the npz batches. folder: a folder of images.
    """
    size: int | None = None
    """Height and width: a folder's images are cut to it, others are averaged down to it."""
    channels: Literal[1, 3] = 3
    """Of a folder's images: 1 for grey, 3 for colour."""
    skip_bad: bool = False
    """Leave out a folder's files that are unreadable or of another kind, and count them."""
    bits: int = 8
    """Bits of each value that are kept, the highest of 8."""
    held_out: Literal["test", "valid"] = "test"
    """Which array of an `.npz` is held out."""
    partial: bool = False
    """Accept fewer ImageNet images than were published; the data set's name says so."""


@dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, schedule and bookkeeping, with the released code's values as defaults."""

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 3e-4
    warmup_steps: int = 2000
    """The learning rate rises linearly from 0 over so many steps."""
    decay_from: float = 1.0
    """Fraction of the run after which the rate falls to zero along a cosine; 1 for never."""
    schedule: str | None = None
    """The whole schedule in words instead, as in `flowpp.schedule`; overrides the three above."""
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    init_batch_size: int = 128
    log_every: int = 20
    evaluate_every: int = 1000
    """Steps between two evaluations, each with a sample grid and a checkpoint."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints besides those; none besides if not given."""
    checkpoint_minutes: float = 10.0
    """A checkpoint also when so many minutes have passed since the last one."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after another, to fit into memory."""
    max_non_finite: int = 10
    """The run stops after so many steps in a row whose loss or gradient is not finite."""
    evaluation_images: int = 1000
    """At most so many held-out images are looked at during training; at its end, all of them."""
    sample_count: int = 64
    seed: int = 0
    threads: int | None = None
    """CPU threads; torch's own choice if None."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse values that no run could use.

        Raises:
            ValueError: a number lies outside its range; the message names it.
        """
        at_least_one = (
            "steps",
            "batch_size",
            "init_batch_size",
            "log_every",
            "evaluate_every",
            "evaluation_images",
            "sample_count",
            "accumulate",
            "max_non_finite",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("threads", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"training.{name} must be at least 1, got {value}")
        if self.warmup_steps < 0:
            raise ValueError(f"training.warmup_steps must be at least 0, got {self.warmup_steps}")
        for name in ("learning_rate", "max_grad_norm", "checkpoint_minutes"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"training.{name} must be positive and finite, got {getattr(self, name)}"
                )
        if not 0 <= self.decay_from <= 1:
            raise ValueError(f"training.decay_from must lie in [0, 1], got {self.decay_from}")
        if self.schedule is not None:
            parse_schedule(self.schedule)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay must lie in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    preset: str = "digits"
    description: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dictionary of a settings dataclass, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """Inverse of `to_dict`.

    Raises:
        ValueError: a key is unknown; the message names it and the known ones.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}
    surplus = sorted(set(values) - set(known))
    if surplus:
        raise ValueError(f"{cls.__name__} has no field {surplus}; its fields are {sorted(known)}")
    nested = {
        "model": ModelConfig,
        "data": DataConfig,
        "training": TrainingConfig,
        "flow": FlowConfig,
        "dequantizer": FlowConfig,
        "context": ContextConfig,
    }
    converted = {
        name: from_dict(nested[name], value) if name in nested else value
        for name, value in values.items()
    }
    return cls(**converted)
