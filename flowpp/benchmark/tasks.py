"""The timed tasks, each as a function of the library and one of the textbook implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowpp.config import Config, presets
from flowpp.config.build import build_model, set_compute
from flowpp.config.settings import Memory, Precision
from flowpp.data import declared_shape
from flowpp.kernels import mixture_logistic
from flowpp.model import FlowPlusPlus
from flowpp.training.ema import EMA
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.initialization import initialize
from flowpp.training.optimizer import make_optimizer

from . import textbook

Function = Callable[[], object]
VERSIONS = ("library", "textbook")
MODEL_TASKS = ("train", "sample", "evaluate")
MIXTURE_TASKS = ("mixture forward", "mixture backward", "mixture inverse")
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
    """

    preset: str
    batch_size: int
    elements: int
    components: int
    memory: Memory = "normal"
    precision: Precision = "float32"


def functions(
    task: str, sizes: Sizes, versions: tuple[str, ...] = VERSIONS
) -> dict[str, Function]:
    """Return functions that run the task, by version. They can be called any number of times.

    Raises:
        ValueError: An unknown task or preset.
    """
    if task in MIXTURE_TASKS:
        return {v: _mixture(task, v, sizes) for v in versions}
    if task not in MODEL_TASKS:
        known = ", ".join((*MODEL_TASKS, *MIXTURE_TASKS))
        raise ValueError(f"a task must be one of {known}, got {task!r}")
    config = presets.get(sizes.preset)
    shape, _ = image_kind(config)
    library, x, noise = _initialized(config, sizes)
    make = {"train": _train, "evaluate": _evaluate}
    made: dict[str, Function] = {}
    for version in versions:
        model = library if version == "library" else textbook.model(library)
        if task == "sample":
            made[version] = _sample(model, (sizes.batch_size, *shape))
        else:
            made[version] = make[task](model, version, config, x, noise)
    return made


def image_kind(config: Config) -> tuple[tuple[int, int, int], int]:
    """Return shape and levels of the preset's images; random ones need no download."""
    data = config.data
    if data.source == "folder" and data.size is None:
        data = replace(data, size=FOLDER_SIZE)
    return declared_shape(data)


def flops(task: str, sizes: Sizes) -> int:
    """Count the floating-point operations of matrix products and convolutions in one call.

    The textbook version is counted: it consists of operations that the counter supports.
    """
    function = functions(task, sizes, ("textbook",))["textbook"]
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def bytes_moved(task: str, sizes: Sizes) -> int:
    """Return the smallest number of bytes that a mixture task reads and writes, in float32.

    Forward: x and 3K parameters in, y and log dy/dx out. Backward, which is timed together with
    forward: the same and both gradients in, the gradients of x and the parameters out. Inverse: y
    and the parameters in, x out, as if the parameters stayed in a cache during the iterations.
    """
    parameters = 3 * sizes.components
    numbers = {
        "mixture forward": 1 + parameters + 2,
        "mixture backward": (1 + parameters + 2) + (1 + parameters + 2) + (1 + parameters),
        "mixture inverse": 1 + parameters + 1,
    }
    return 4 * sizes.elements * numbers[task]


def _initialized(config: Config, sizes: Sizes) -> tuple[FlowPlusPlus, Tensor, Tensor]:
    shape, levels = image_kind(config)
    generator = torch.Generator().manual_seed(0)
    model = build_model(config.model, shape, levels, generator)
    set_compute(model, memory=sizes.memory, precision=sizes.precision)
    x = torch.randint(levels, (sizes.batch_size, *shape), generator=generator).float()
    noise = model.dequantizer.draw_noise(x.shape, dtype=x.dtype, generator=generator)
    # Data-dependent initialization needs more than one image.
    initialize(model, x.repeat(2, 1, 1, 1), noise.repeat(2, 1, 1, 1))
    return model, x, noise


def _train(
    model: FlowPlusPlus, version: str, config: Config, x: Tensor, noise: Tensor
) -> Function:
    """Return a training step: bound, gradients, clipping, optimizer, moving average."""
    model.train()
    rate = 1e-12  # small enough that the steps do not change the model
    params = list(model.parameters())
    if version == "library":
        settings = replace(config.training, learning_rate=rate)
        optimizer = make_optimizer(model, settings)
        update: Callable[[], None] = EMA(model, config.training.ema_decay).update
    else:
        optimizer = torch.optim.Adam(params, rate, foreach=False)
        update = _plain_average(model, config.training.ema_decay)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = -model.elbo(x, noise).total.mean()
        loss.backward()
        if version == "library":
            clip_by_global_norm(params, config.training.max_grad_norm)
        else:
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


def _evaluate(
    model: FlowPlusPlus, version: str, config: Config, x: Tensor, noise: Tensor
) -> Function:
    model.eval()

    def bound() -> Tensor:
        with torch.no_grad():
            return model.elbo(x, noise).total

    return bound


def _sample(model: FlowPlusPlus, shape: tuple[int, ...]) -> Function:
    model.eval()
    with torch.no_grad():
        latent = model.encode(torch.zeros(shape), torch.full(shape, 0.5)).shape
    z = torch.randn(latent, generator=torch.Generator().manual_seed(1))

    def images() -> Tensor:
        with torch.no_grad():
            return model.decode_images(z)

    return images


def _mixture(task: str, version: str, sizes: Sizes) -> Function:
    module = mixture_logistic if version == "library" else textbook
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.randn(1, sizes.elements, generator=generator)
    logits, means, log_scales = torch.randn(
        3, 1, sizes.elements, sizes.components, generator=generator
    ).unbind()
    inputs = (x, logits, means, log_scales)
    if task == "mixture inverse":
        return lambda: module.inverse_logit_cdf(*inputs)
    if task == "mixture forward":

        def forward() -> object:
            with torch.no_grad():
                return module.logit_cdf(*inputs)

        return forward
    leaves = tuple(t.requires_grad_() for t in inputs)

    def backward() -> object:
        y, log_derivative = module.logit_cdf(*leaves)
        return torch.autograd.grad((y.square() / 2 + log_derivative).sum(), leaves)

    return backward
