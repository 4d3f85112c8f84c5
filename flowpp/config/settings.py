"""Typed settings of a run: model, data, training.

Everything is a frozen dataclass of plain values, so that a run's settings are printable,
comparable, storable as JSON and reachable from the command line (`--model.flow.filters 8`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flowpp.config.checks import at_least, at_most, finite, one_of, seed, within
from flowpp.config.layout import only_split, parse_layout
from flowpp.config.schedule import parse_schedule

Attention = Literal["attention", "maxout", "none"]
Coupling = Literal["mixture", "affine"]
Convolution = Literal["halves", "joint", "lu", "none"]
ActNormKind = Literal["activation", "channel"]
Dequantization = Literal["variational", "uniform"]
Memory = Literal["normal", "low"]
Precision = Literal["float32", "bfloat16"]
Source = Literal["digits", "photos", "cifar10", "imagenet32", "imagenet64", "folder"]
MOST_THREADS = 1024
"""More is a slip of the hand, and torch or the machine would not survive it."""
LARGEST_SIZE = 1 << 14
HeldOut = Literal["test", "valid"]


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

    def __post_init__(self) -> None:
        """Refuse what no chain can be built of.

        Raises:
            ValueError: a number outside its range, an unknown word, or a layout that is none.
        """
        parse_layout(self.layout)
        for name in ("filters", "components", "heads"):
            at_least(name, getattr(self, name), 1)
        at_least("blocks", self.blocks, 0)
        within("dropout", self.dropout, 0, 1)
        finite("log_scale_floor", self.log_scale_floor)
        one_of("coupling", self.coupling, Coupling)
        one_of("attention", self.attention, Attention)
        one_of("convolution", self.convolution, Convolution)
        one_of("act_norm", self.act_norm, ActNormKind)


@dataclass(frozen=True)
class ContextConfig:
    """The network that shows the image to the variational dequantizer."""

    filters: int = 32
    blocks: int = 3
    layer_norm: bool = False
    attention: Attention = "none"

    def __post_init__(self) -> None:
        """Refuse what no network can be built of.

        Raises:
            ValueError: a number outside its range, or an unknown word.
        """
        at_least("filters", self.filters, 1)
        at_least("blocks", self.blocks, 0)
        one_of("attention", self.attention, Attention)


@dataclass(frozen=True)
class ModelConfig:
    """A Flow++ model: a dequantizer and a flow.

    The dequantizer's layout has splits of one kind and nothing else, since its context network
    sees the image laid out by that split.
    """

    flow: FlowConfig = field(default_factory=FlowConfig)
    dequantization: Dequantization = "variational"
    dequantizer: FlowConfig = field(
        default_factory=lambda: FlowConfig(layout="columns 4", blocks=2)
    )
    context: ContextConfig = field(default_factory=ContextConfig)

    def __post_init__(self) -> None:
        """Refuse a dequantizer of another kind, or one whose layout it cannot follow.

        Raises:
            ValueError: an unknown word, or a dequantizer's layout of more than one kind of split.
        """
        one_of("dequantization", self.dequantization, Dequantization)
        if self.dequantization == "variational":
            only_split(self.dequantizer.layout)


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
    held_out: HeldOut = "test"
    """Which array of an `.npz` is held out."""
    partial: bool = False
    """Accept fewer ImageNet images than were published; the data set's name says so."""

    def __post_init__(self) -> None:
        """Refuse what no data set has.

        Raises:
            ValueError: a number outside its range, or an unknown word; the message names it.
        """
        one_of("data.source", self.source, Source)
        one_of("data.held_out", self.held_out, HeldOut)
        at_least("data.size", self.size, 1)
        at_most("data.size", self.size, LARGEST_SIZE)
        if not 1 <= self.bits <= 8:
            raise ValueError(f"data.bits must lie in 1 ... 8, got {self.bits}")


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
    """A schedule, see `flowpp.config.schedule`; overrides the three settings above."""
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
    deterministic: bool = False
    """Deterministic algorithms alone: the same bits in every run on the same GPU, more slowly."""
    memory: Memory = "normal"
    """low: couplings are computed again in the backward pass; same gradients, less memory."""
    precision: Precision = "float32"
    """bfloat16: of the networks inside couplings; everything else stays float32."""

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
        for name in (*at_least_one, "threads", "checkpoint_every"):
            at_least(f"training.{name}", getattr(self, name), 1)
        at_most("training.threads", self.threads, MOST_THREADS)
        at_least("training.warmup_steps", self.warmup_steps, 0)
        seed("training.seed", self.seed)
        for name in ("learning_rate", "max_grad_norm", "checkpoint_minutes"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"training.{name} must be positive and finite, got {getattr(self, name)}"
                )
        if not 0 <= self.decay_from <= 1:
            raise ValueError(f"training.decay_from must lie in [0, 1], got {self.decay_from}")
        if self.schedule is not None:
            parse_schedule(self.schedule)
        within("training.ema_decay", self.ema_decay, 0, 1)


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    preset: str = "digits"
    description: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
