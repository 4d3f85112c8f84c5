"""Computation of the networks' blocks by torch.compile, after a trial."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowpp.config import TrainingConfig
from flowpp.config.build import set_compute
from flowpp.evaluation.contexts import blank_contexts, context_tensor
from flowpp.model import FlowPlusPlus
from flowpp.runtime import random_state
from flowpp.runtime.determinism import fastest_convolutions
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.gradients import accumulate_gradients, times_convolutions


class CompilationError(RuntimeError):
    """The blocks were to be compiled and cannot be."""


def compile_blocks(
    model: FlowPlusPlus,
    image_shape: tuple[int, int, int],
    settings: TrainingConfig,
    group: ProcessGroup,
    message: Callable[[str], None],
) -> None:
    """Let torch.compile compute the blocks in training, if the settings ask for it.

    One forward and backward pass of a batch of zeros compiles them; the weights and the random
    state stay as they are.

    Args:
        model: Model in training mode, not its wrapper for several processes.
        image_shape: (channels, height, width).
        settings: Settings of the run.
        group: All processes; if one of them cannot compile, none does.
        message: Function that shows a line to the user.

    Raises:
        CompilationError: The trial failed, and `training.compile` is "blocks".
    """
    device = next(model.parameters()).device
    if not uses_compiler(settings, device):
        return
    message("training.compile: compiling the networks' blocks, which may take minutes")
    _set_compiled(model, settings, compiled=True)
    error = _trial(model, image_shape, settings, group)
    (failures,) = group.mean([error is not None])
    if not failures:
        return
    _set_compiled(model, settings, compiled=False)
    reason = "another process failed" if error is None else _first_line(error)
    if settings.compile == "blocks":
        raise CompilationError(
            f"training.compile must be none or auto here, got blocks, which failed: {reason}"
        ) from error
    message(f"training.compile: training without torch.compile, which failed: {reason}")


def uses_compiler(settings: TrainingConfig, device: torch.device) -> bool:
    """Return whether the settings ask for compiled blocks on this device."""
    automatic = settings.compile == "auto" and device.type == "cuda"
    return settings.compile == "blocks" or automatic


def _set_compiled(model: FlowPlusPlus, settings: TrainingConfig, *, compiled: bool) -> None:
    set_compute(model, memory=settings.memory, precision=settings.precision, compiled=compiled)


def _trial(
    model: FlowPlusPlus,
    image_shape: tuple[int, int, int],
    settings: TrainingConfig,
    group: ProcessGroup,
) -> Exception | None:
    """Return the error of a step's forward and backward pass, None without one."""
    device = next(model.parameters()).device
    random_before = random_state.torch_state(device)
    zeros = torch.zeros(settings.batch_size // group.size, *image_shape, device=device)
    noise = _blank_noise(model, zeros, settings.importance_samples)
    blank = blank_contexts(model.context_spec, len(zeros))
    context = [context_tensor(rows, zeros) for rows in blank]
    try:
        with fastest_convolutions(enabled=times_convolutions(settings, device)):
            accumulate_gradients(model, zeros, noise, settings.accumulate, *context)
    except torch.OutOfMemoryError:
        raise  # says nothing about the compiler
    except Exception as error:  # noqa: BLE001  (the compiler's own, the C++ compiler's, Triton's)
        return error
    finally:
        random_state.set_torch_state(random_before, device)
        model.zero_grad()
    return None


def _blank_noise(model: FlowPlusPlus, images: Tensor, draws: int) -> Tensor:
    """Return zeros of the shape of a batch's noise: those of other shapes are compiled anew."""
    batch, *shape = model.augmented_shape(tuple(images.shape))
    return images.new_zeros((batch, draws, *shape) if draws > 1 else (batch, *shape))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
