"""The mixture's timed tasks: elementwise functions, and the map of a coupling in both layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from flowpp.elementwise import MixtureLogisticFamily
from flowpp.kernels import mixture_logistic

from . import textbook

Function = Callable[[], object]
DIRECTIONS = ("forward", "backward", "inverse")
TASKS = tuple(f"mixture {direction}" for direction in DIRECTIONS)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
LAYOUT_TASKS = tuple(f"{task}, {layout}" for layout in LAYOUTS for task in TASKS)
IMAGE = (3, 32, 16)
"""Channels, height and width of half an image of 3x32x32, the input of a coupling's map."""
FLOOR = -7.0
"""Lower bound of the log-scales, the preset's."""


@dataclass(frozen=True)
class MixtureSizes:
    """Sizes of a mixture task.

    Args:
        elements: Number of scalars; in the layout tasks rounded to whole images, at least one.
        components: Number of components.
        device: Device.
    """

    elements: int
    components: int
    device: str = "cpu"

    @property
    def images(self) -> int:
        """Number of images of the layout tasks."""
        return max(1, round(self.elements / (IMAGE[0] * IMAGE[1] * IMAGE[2])))


def function(task: str, version: str, sizes: MixtureSizes) -> Function:
    """Return a function that runs a task of `TASKS` or `LAYOUT_TASKS`."""
    if task in LAYOUT_TASKS:
        return _layout_function(task, version, sizes)
    return _elementwise_function(task, version, sizes)


def elements(task: str, sizes: MixtureSizes) -> int:
    """Return the number of scalars that a task maps."""
    if task in LAYOUT_TASKS:
        return sizes.images * IMAGE[0] * IMAGE[1] * IMAGE[2]
    return sizes.elements


def bytes_moved(task: str, sizes: MixtureSizes) -> int:
    """Return the smallest number of bytes that a mixture task reads and writes, in float32.

    Forward: x and 3K parameters in, y and log dy/dx out. Backward, which is timed together with
    forward: the same and both gradients in, the gradients of x and the parameters out. Inverse: y
    and the parameters in, x out, as if the parameters stayed in a cache during the iterations.
    The map of a coupling has two parameters more, and sums log dy/dx over each image.
    """
    layout = task in LAYOUT_TASKS
    parameters = 3 * sizes.components + (2 if layout else 0)
    outputs = 1 if layout else 2
    numbers = {
        "forward": 1 + parameters + outputs,
        "backward": (1 + parameters + outputs) + (1 + parameters + outputs) + (1 + parameters),
        "inverse": 1 + parameters + 1,
    }
    return 4 * elements(task, sizes) * numbers[_direction(task)]


def _direction(task: str) -> str:
    return next(name for name in DIRECTIONS if name in task)


def _elementwise_function(task: str, version: str, sizes: MixtureSizes) -> Function:
    module: ModuleType = mixture_logistic if version == "library" else textbook
    x, parameters = _normal(
        sizes.device, (1, sizes.elements), (3, 1, sizes.elements, sizes.components)
    )
    inputs = (2 * x, *parameters.unbind())
    return _in_direction(task, module.logit_cdf, module.inverse_logit_cdf, inputs)


def _layout_function(task: str, version: str, sizes: MixtureSizes) -> Function:
    """Return the map of a coupling whose network's output has the layout of the task."""
    library = version == "library"
    kind: type[MixtureLogisticFamily] = (
        MixtureLogisticFamily if library else textbook.MixtureFamily
    )
    family = kind(sizes.components, FLOOR)
    channels, height, width = IMAGE
    raw_channels = channels * family.parameters_per_scalar
    drawn = _normal(
        sizes.device, (sizes.images, *IMAGE), (sizes.images, raw_channels, height, width)
    )
    layout = LAYOUTS[task.split(", ")[1]]
    inputs = tuple(t.contiguous(memory_format=layout) for t in drawn)

    def parameters(raw: Tensor) -> Tensor:  # as a coupling splits its network's output
        split = raw.reshape(len(raw), channels, family.parameters_per_scalar, height, width)
        return split.permute(0, 1, 3, 4, 2)

    return _in_direction(
        task,
        lambda x, raw: family.transform(x, parameters(raw)),
        lambda y, raw: family.inverse_transform(y, parameters(raw)),
        inputs,
    )


def _normal(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Return normally distributed tensors, the same in each call on a device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return [torch.randn(shape, device=device) for shape in shapes]


def _in_direction(
    task: str,
    transform: Callable[..., tuple[Tensor, Tensor]],
    inverse: Callable[..., object],
    inputs: tuple[Tensor, ...],
) -> Function:
    direction = _direction(task)
    if direction == "backward":
        leaves = tuple(t.requires_grad_() for t in inputs)
        given = tuple(torch.ones_like(output) for output in transform(*leaves))

        def gradients() -> object:
            return torch.autograd.grad(transform(*leaves), leaves, given)

        return gradients
    call = transform if direction == "forward" else inverse

    def without_gradients() -> object:
        with torch.no_grad():
            return call(*inputs)

    return without_gradients
