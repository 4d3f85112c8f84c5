"""Settings of a run: model, data and training.

All are frozen dataclasses of plain values: printable, comparable, stored as JSON, and set from the
command line (`--model.flow.filters 8`), where the fields' docstrings are the help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from flowpp.config.checks import at_least, at_most, finite, one_of, seed, within
from flowpp.config.context_spec import ConditionConfig
from flowpp.config.data_settings import DataConfig
from flowpp.config.layout import only_split, parse_layout
from flowpp.config.migration import migrate_training
from flowpp.config.schedule import parse_schedule

Attention = Literal["attention", "maxout", "none"]
Coupling = Literal["mixture", "affine"]
Convolution = Literal["halves", "joint", "lu", "none"]
ActNormKind = Literal["activation", "channel"]
Dequantization = Literal["variational", "truncated-normal", "uniform"]
Memory = Literal["normal", "low"]
Precision = Literal["float32", "tf32", "bfloat16"]
Compilation = Literal["auto", "none", "blocks"]
CudaGraph = Literal["auto", "on", "off"]
OptimizerKind = Literal["adam", "muon", "muon-inputs"]
MAX_THREADS = 1024
"""Upper bound on `threads`; larger values are almost certainly typos."""


@dataclass(frozen=True)
class FlowConfig:
    """A chain of couplings and the networks inside them."""

    layout: str = "columns 4, squeeze, channels 2, columns 3"
    """Couplings and reshapes in order, see `model options` above."""
    coupling: Coupling = "mixture"
    """Elementwise map: a mixture of logistics, or affine."""
    filters: int = 96
    """Channels inside a coupling's network."""
    blocks: int = 10
    """Gated convolution and attention blocks in a coupling's network."""
    components: int = 32
    """Logistic components per pixel and channel."""
    heads: int = 4
    """Attention heads."""
    attention: Attention = "attention"
    """Second half of a block: attention, maxout over channels, or none."""
    dropout: float = 0.2
    """Dropout rate inside the networks, during training."""
    log_scale_floor: float | None = -7.0
    """Lower bound on the mixture's log-scales; -7 in the released code."""
    weight_norm: bool = False
    """Weight normalization of the networks' convolutions."""
    activate_last: bool = False
    """concat-ELU before a network's last convolution."""
    convolution: Convolution = "halves"
    """1x1 convolution before a coupling: per half, joint, joint in LU form, or none."""
    act_norm: ActNormKind = "activation"
    """Normalization before a coupling: per activation or per channel."""
    whiten: bool = False
    """1x1 convolutions start as the matrices that whiten the first batch."""
    spread: bool = False
    """Mixtures start with means from -1.5 to 1.5 and scales of 0.6, rather than all equal."""

    def __post_init__(self) -> None:
        """Check ranges, choices and the layout.

        Raises:
            ValueError: A number outside its range, an unknown choice, an invalid layout, or an
                initialization of a part that there is not.
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
        if self.whiten and self.convolution == "none":
            raise ValueError("whiten must be False for convolution none, got True")
        if self.spread and self.coupling == "affine":
            raise ValueError("spread must be False for coupling affine, got True")


@dataclass(frozen=True)
class ContextConfig:
    """The network that conditions the variational dequantizer on the image."""

    filters: int = 32
    """Channels inside the network, and of the context that it returns."""
    blocks: int = 3
    """Gated convolution blocks."""
    layer_norm: bool = False
    """Layer normalization after each convolution."""
    attention: Attention = "none"
    """Second half of a block: attention, maxout over channels, or none."""

    def __post_init__(self) -> None:
        """Check ranges and choices.

        Raises:
            ValueError: A number outside its range, or an unknown choice.
        """
        at_least("filters", self.filters, 1)
        at_least("blocks", self.blocks, 0)
        one_of("attention", self.attention, Attention)


@dataclass(frozen=True)
class ModelConfig:
    """A Flow++ model: a flow and a dequantizer, each with a layout.

    A layout lists couplings and reshapes, such as "columns 4, squeeze, channels 2": four couplings
    over column stripes, a squeeze, two over channel halves. Its items are `columns N`,
    `checkerboard N`, `channels N`, `squeeze`, and `factor`, after which half of the channels go to
    the prior and the rest of the layout acts on the other half. A dequantizer's layout has one
    kind of split only, since its context network gets the image laid out by that split.
    """

    flow: FlowConfig = field(default_factory=FlowConfig)
    """The flow from dequantized images to noise."""
    dequantization: Dequantization = "variational"
    """Dequantization noise: a learned flow, a truncated normal with learned means and scales, or
    uniform."""
    dequantizer: FlowConfig = field(
        default_factory=lambda: FlowConfig(layout="columns 4", blocks=2)
    )
    """The flow of the variational dequantizer; unused by uniform dequantization. An augmentation
    has a flow of its own with the same settings."""
    context: ContextConfig = field(default_factory=ContextConfig)
    """The network that conditions the dequantizer's flow or normal on the image; an augmentation
    has one of its own."""
    augment: int = 0
    """Channels of variational noise that the flow models together with the image (VFlow)."""
    orthogonal: bool = False
    """Kernels of all networks start as orthogonal matrices, rather than Gaussian."""
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    """The encoder of labels or other contexts that a model is conditioned on, if any."""

    def __post_init__(self) -> None:
        """Check the dequantizer and its layout, and the augmentation.

        Raises:
            ValueError: An unknown choice, a negative number, or a dequantizer's layout with
                several kinds of split.
        """
        one_of("dequantization", self.dequantization, Dequantization)
        at_least("augment", self.augment, 0)
        if self.has_conditional_flow:
            only_split(self.dequantizer.layout)

    @property
    def has_conditional_flow(self) -> bool:
        """Whether a flow is conditioned on the image: that of a dequantizer or an augmentation."""
        return self.dequantization == "variational" or self.augment > 0


@dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, learning rate, logging and evaluation; defaults follow the released code."""

    steps: int = 1000
    """Number of optimizer steps."""
    minutes: float | None = None
    """Minutes of training, evaluations and resumptions included, after which it ends as after its
    last step. `steps` remains the most steps, and the length that the schedule refers to."""
    batch_size: int = 64
    """Images per step, over all processes."""
    optimizer: OptimizerKind = "adam"
    """adam; or muon for the kernels inside blocks, with three times the learning rate, and adam
    for the rest; muon-inputs updates the first kernel of each network by muon too."""
    importance_samples: int = 1
    """Noise draws per image in the loss, the importance-weighted bound; time and memory grow with
    it. Held-out figures are one-sample bounds all the same."""
    label_dropout: float = 0.1
    """Probability with which the label of a training image is replaced by none, so that a model
    of labelled images gives p(x) too. Without labels it has no effect."""
    learning_rate: float = 3e-4
    """Peak learning rate, which the schedule's factors refer to."""
    schedule: str = "warm-up 2000"
    """Factors of the learning rate, as comma-separated pieces: warm-up STEPS, constant UNTIL,
    linear UNTIL FACTOR, cosine UNTIL FACTOR, exponential RATIO FACTOR. UNTIL is a step, a
    percentage of the run, or end; pieces count from step 0, also during the warm-up."""
    max_grad_norm: float = 1.0
    """Largest global norm of the gradients, in nats per image; larger ones are scaled down."""
    ema_decay: float = 0.999
    """Decay of the weights' exponential moving average; 0 evaluates the weights themselves."""
    init_batch_size: int = 128
    """Most images for the data-dependent initialization; all, if there are fewer."""
    log_every: int = 20
    """Steps between log lines; a GPU's losses are read only then."""
    evaluate_every: int = 1000
    """Steps between evaluations, each with a sample grid and a checkpoint."""
    checkpoint_every: int | None = None
    """Steps between additional checkpoints; None for none."""
    checkpoint_minutes: float = 10.0
    """Minutes after which a checkpoint is written even if none is due."""
    accumulate: int = 1
    """Number of parts a batch is split into, to save memory; gradients are accumulated."""
    max_non_finite: int = 10
    """Number of consecutive steps with a non-finite loss or gradient after which the run stops."""
    evaluation_images: int = 1000
    """Maximum number of held-out images per evaluation; the final evaluation uses all."""
    sample_count: int = 64
    """Number of images in a sample grid."""
    seed: int = 0
    """Seed of all random numbers."""
    threads: int | None = None
    """Number of CPU threads; None leaves torch's choice."""
    device: str = "auto"
    """Device to train on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    deterministic: bool = False
    """Use deterministic algorithms only: reproducible on the same GPU, but slower."""
    memory: Memory = "normal"
    """low recomputes couplings in the backward pass: same gradients, less memory, more time."""
    precision: Precision = "float32"
    """Arithmetic of the networks; everything else is float32. float32: IEEE. tf32: matrix products
    and convolutions round their factors to TF32 on CUDA devices that have it; float32 elsewhere.
    bfloat16: mixed precision."""
    compile: Compilation = "auto"
    """blocks: torch.compile computes the networks' blocks in training, which takes minutes at the
    start and random numbers of its own for dropout. auto: blocks on CUDA devices, unless they
    cannot be compiled there; none elsewhere."""
    cuda_graph: CudaGraph = "auto"
    """on: a CUDA graph replays the whole step, so that the host does not launch each kernel. auto:
    on on CUDA devices for one process, unless the step cannot be captured; off elsewhere."""

    def __post_init__(self) -> None:
        """Validate the settings.

        Raises:
            ValueError: A setting out of range; the message names it.
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
            "importance_samples",
            "max_non_finite",
        )
        for name in (*at_least_one, "threads", "checkpoint_every"):
            at_least(f"training.{name}", getattr(self, name), 1)
        at_most("training.threads", self.threads, MAX_THREADS)
        seed("training.seed", self.seed)
        for name in ("learning_rate", "max_grad_norm", "checkpoint_minutes", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"training.{name} must be positive and finite, got {value}")
        parse_schedule(self.schedule)
        within("training.ema_decay", self.ema_decay, 0, 1)
        within("training.label_dropout", self.label_dropout, 0, 1)
        one_of("training.optimizer", self.optimizer, OptimizerKind)
        one_of("training.compile", self.compile, Compilation)
        one_of("training.cuda_graph", self.cuda_graph, CudaGraph)

    @staticmethod
    def migrate(values: dict[str, Any]) -> dict[str, Any]:
        """Convert stored values of version 0.1.0; `serialization.from_dict` calls this."""
        return migrate_training(values)


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    preset: str = "digits"
    """Name of the preset that the settings started from."""
    description: str = ""
    """Description of the preset, with published results."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
