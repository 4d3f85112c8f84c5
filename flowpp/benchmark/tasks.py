"""The timed tasks, each as a function of the library and one of the textbook implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowpp.config import Config, presets
from flowpp.config.build import build_model, set_compute
from flowpp.config.settings import Compilation, CudaGraph, Memory, Precision
from flowpp.data import declared_shape
from flowpp.model import FlowPlusPlus
from flowpp.training.initialization import initialize

from . import mixture, textbook
from .mixture import MixtureSizes
from .training_step import TrainerStep

Function = Callable[[], object]
VERSIONS = ("library", "textbook")
MODEL_TASKS = ("train", "sample", "evaluate")
MIXTURE_TASKS = (*mixture.TASKS, *mixture.LAYOUT_TASKS)
GROUPS = {"mixture": mixture.TASKS, "layouts": mixture.LAYOUT_TASKS}
"""Short names of several tasks."""
FOLDER_SIZE = 64
"""Height and width of the images of a folder, if the preset does not set them."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the timed problems, and how the library's model is computed.

    Args:
        preset: Name of the model's preset.
        batch_size: Number of images.
        elements: Number of scalars in the mixture tasks.
        components: Number of components in the mixture tasks.
        memory: Setting `training.memory` of the library's model.
        precision: Setting `training.precision` of the library's model.
        device: Device of everything.
        compile: Setting `training.compile` of the library's training step.
        cuda_graph: Setting `training.cuda_graph` of the library's training step.
    """

    preset: str
    batch_size: int
    elements: int
    components: int
    memory: Memory = "normal"
    precision: Precision = "float32"
    device: str = "cpu"
    compile: Compilation = "auto"
    cuda_graph: CudaGraph = "auto"

    @property
    def mixture(self) -> MixtureSizes:
        """Sizes of the mixture tasks."""
        return MixtureSizes(self.elements, self.components, self.device)


def functions(
    task: str, sizes: Sizes, versions: tuple[str, ...] = VERSIONS
) -> dict[str, Function]:
    """Return functions that run the task, by version. They can be called any number of times.

    Raises:
        ValueError: An unknown task or preset.
    """
    if task in MIXTURE_TASKS:
        return {v: mixture.function(task, v, sizes.mixture) for v in versions}
    if task not in MODEL_TASKS:
        known = ", ".join((*MODEL_TASKS, *MIXTURE_TASKS))
        raise ValueError(f"a task must be one of {known}, got {task!r}")
    config = presets.get(sizes.preset)
    shape, levels = image_kind(config)
    made: dict[str, Function] = {}
    if task == "train" and "library" in versions:
        made["library"] = TrainerStep(training_config(config, sizes), shape, levels)
        versions = tuple(v for v in versions if v != "library")
    if versions:
        library, x, noise = _initialized(config, sizes)
    for version in versions:
        model = library if version == "library" else textbook.model(library)
        if task == "train":
            made[version] = _textbook_step(model, config, x, noise)
        elif task == "sample":
            made[version] = _sample(model, (sizes.batch_size, *shape))
        else:
            made[version] = _evaluate(model, x, noise)
    return made


def training_config(config: Config, sizes: Sizes) -> Config:
    """Return the preset's settings with those of the sizes."""
    training = replace(
        config.training,
        batch_size=sizes.batch_size,
        memory=sizes.memory,
        precision=sizes.precision,
        device=sizes.device,
        compile=sizes.compile,
        cuda_graph=sizes.cuda_graph,
        threads=None,  # the benchmark has a flag of its own
    )
    return replace(config, training=training)


def image_kind(config: Config) -> tuple[tuple[int, int, int], int]:
    """Return shape and levels of the preset's images; random ones need no download."""
    data = config.data
    if data.source == "folder" and data.size is None:
        data = replace(data, size=FOLDER_SIZE)
    return declared_shape(data)


def flops(task: str, sizes: Sizes) -> int:
    """Count the floating-point operations of matrix products and convolutions in one call.

    The textbook version is counted: it consists of operations that the counter supports. It is
    computed for one image, since the operations are the same for each.
    """
    one = replace(sizes, batch_size=1, precision="float32")
    function = functions(task, one, ("textbook",))["textbook"]
    with FlopCounterMode(display=False) as counter:
        function()
    return sizes.batch_size * counter.get_total_flops()


def _initialized(config: Config, sizes: Sizes) -> tuple[FlowPlusPlus, Tensor, Tensor]:
    """Return a model, images and noise on the device, in the order in which training does."""
    shape, levels = image_kind(config)
    generator = torch.Generator().manual_seed(0)
    model = build_model(config.model, shape, levels, generator)
    set_compute(model, memory=sizes.memory, precision=sizes.precision)
    model = model.to(sizes.device)
    x = torch.randint(levels, (sizes.batch_size, *shape), generator=generator).float()
    noise = model.draw_noise(x.shape, dtype=x.dtype, generator=generator)
    x, noise = x.to(sizes.device), noise.to(sizes.device)
    # Data-dependent initialization needs more than one image.
    initialize(model, x.repeat(2, 1, 1, 1), noise.repeat(2, 1, 1, 1))
    return model, x, noise


def _textbook_step(model: FlowPlusPlus, config: Config, x: Tensor, noise: Tensor) -> Function:
    """Return a training step: bound, gradients, clipping, optimizer, moving average."""
    model.train()
    params = list(model.parameters())
    rate = 1e-12  # small enough that the steps do not change the model
    optimizer = torch.optim.Adam(params, rate, foreach=False)
    update = _plain_average(model, config.training.ema_decay)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = -model.elbo(x, noise).total.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(params, config.training.max_grad_norm, foreach=False)
        optimizer.step()
        update()
        return loss.detach()

    return step


def _plain_average(model: nn.Module, decay: float) -> Callable[[], None]:
    average = [p.detach().clone() for p in model.parameters()]

    def update() -> None:
        with torch.no_grad():
            for a, p in zip(average, model.parameters(), strict=True):
                a.mul_(decay).add_(p, alpha=1 - decay)

    return update


def _evaluate(model: FlowPlusPlus, x: Tensor, noise: Tensor) -> Function:
    model.eval()

    def bound() -> Tensor:
        with torch.no_grad():
            return model.elbo(x, noise).total

    return bound


def _sample(model: FlowPlusPlus, shape: tuple[int, ...]) -> Function:
    model.eval()
    device = next(model.parameters()).device
    count, channels, height, width = shape
    latent = count, *model.latent_shape_of((channels, height, width))
    z = torch.randn(latent, generator=torch.Generator().manual_seed(1)).to(device)

    def images() -> Tensor:
        with torch.no_grad():
            return model.decode_images(z)

    return images
