"""The training step as a CUDA graph: recorded once, then replayed by one launch.

A graph repeats its kernels at the same addresses. So the batch, gradients, loss and norm have
permanent tensors of their own, and whatever changes from step to step is written into tensors that
the kernels read: the batch, the step sizes of `Adam.advance`, the offset of the random numbers.
Gradients live in the graph's own memory. Weights and averages must keep their addresses: `EMA`
copies values, and so does the loading of a checkpoint.

Random numbers: a graph draws those that its kernels would have drawn without it, since torch sets
the generator's offset at each replay. So a resumed run, whose first steps are computed without a
graph again, continues as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from flowpp.config import TrainingConfig
from flowpp.runtime import random_state
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.step import TrainingStep

WARM_UP = 3
"""Number of steps before the capture: libraries and compilers choose and load their kernels in
them, and the optimizer makes its averages."""


class Graph(Protocol):
    """A recorded sequence of kernels."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Compute a function as it will be captured."""

    def capture(self, function: Callable[[], Tensor]) -> Tensor:
        """Record the kernels of a function, and return the tensor that each replay writes."""

    def replay(self) -> None:
        """Launch the kernels."""


class CaptureError(RuntimeError):
    """The step was to be captured in a CUDA graph and cannot be."""


class CapturedStep:
    """A training step that is replayed from a CUDA graph, from its fourth call on.

    Args:
        step: The step; the device must skip its updates by itself.
        graph: A graph without kernels.
        message: Function that shows a line to the user.
        required: Whether a failed capture is an error; otherwise training continues without it.

    Raises:
        CaptureError: On use, if a required capture failed.
    """

    def __init__(
        self,
        step: TrainingStep,
        graph: Graph,
        message: Callable[[str], None],
        *,
        required: bool = False,
    ) -> None:
        self.step, self.graph, self.message, self.required = step, graph, message, required
        self.calls = 0
        self.failed = False
        self.inputs: tuple[Tensor, ...] | None = None
        self.outcome: Tensor | None = None

    def __call__(self, x: Tensor, noise: Tensor, *context: Tensor) -> Tensor:
        """Do one step; see `TrainingStep`."""
        batch = (x, noise, *context)
        self.step.advance()
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.graph.warm_up(lambda: self.step.compute(*batch))
        if self.inputs is None:
            self.inputs = tuple(tensor.clone() for tensor in batch)
            self._capture(self.inputs)
        if self.failed or self.outcome is None:
            return self.step.compute(*batch)
        for own, given in zip(self.inputs, batch, strict=True):
            own.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.outcome.clone()  # the next replay overwrites it

    def resume(self) -> None:
        """Update again; see `TrainingStep.resume`."""
        self.step.resume()

    def _capture(self, batch: tuple[Tensor, ...]) -> None:
        device = self.step.state.device
        random_before = random_state.torch_state(device)
        self.step.state.optimizer.zero_grad()  # the gradients of replays are the graph's own
        try:
            self.outcome = self.graph.capture(lambda: self.step.compute(*batch))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.failed = True
            reason = _cause(error)
            if self.required:
                raise CaptureError(
                    f"training.cuda_graph must be off or auto here, got on, which failed: {reason}"
                ) from error
            self.message(f"training.cuda_graph: training without a graph, which failed: {reason}")
        finally:
            random_state.set_torch_state(random_before, device)


class CudaGraph:
    """torch's CUDA graph of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.graph = torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Compute a function on the stream of the capture."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        result.record_stream(current)
        return result

    def capture(self, function: Callable[[], Tensor]) -> Tensor:
        """Record the kernels of a function, and return the tensor that each replay writes."""
        current = torch.cuda.current_stream(self.device)
        generator = torch.cuda.default_generators[current.device_index]
        random_before = generator.clone_state()
        try:
            # Other threads, such as one that writes a checkpoint, may use the device meanwhile.
            with torch.cuda.graph(
                self.graph, stream=self.stream, capture_error_mode="thread_local"
            ):
                return function()
        except BaseException:
            # A failed capture leaves its stream the current one, and may leave the generator
            # waiting for the capture's end.
            torch.cuda.set_stream(current)
            generator.graphsafe_set_state(random_before)
            self.graph = torch.cuda.CUDAGraph()  # the other one keeps the memory of a whole step
            raise

    def replay(self) -> None:
        """Launch the kernels on the current stream."""
        self.graph.replay()


def capturing(
    step: TrainingStep,
    settings: TrainingConfig,
    group: ProcessGroup,
    message: Callable[[str], None],
) -> TrainingStep | CapturedStep:
    """Return the step, captured in a CUDA graph if the settings ask for it.

    Raises:
        ValueError: See `uses_graph`.
    """
    if not uses_graph(settings, step.state.device, group):
        return step
    if not step.skips_on_device:
        message("training.cuda_graph: training without a graph, as the optimizer needs the host")
        return step
    required = settings.cuda_graph == "on"
    return CapturedStep(step, CudaGraph(step.state.device), message, required=required)


def uses_graph(settings: TrainingConfig, device: torch.device, group: ProcessGroup) -> bool:
    """Return whether the settings ask for a CUDA graph and it is possible.

    Raises:
        ValueError: `training.cuda_graph` is "on" where it is not possible.
    """
    if settings.cuda_graph == "off":
        return False
    obstacle = None
    if device.type != "cuda":
        obstacle = f"the device is {device}"
    elif group.size > 1:
        obstacle = "several processes train together"
    elif settings.memory == "low":
        obstacle = "training.memory low restores random states in the backward pass"
    if obstacle is not None and settings.cuda_graph == "on":
        raise ValueError(f"training.cuda_graph must be auto or off here, got on: {obstacle}")
    return obstacle is None


def _cause(error: BaseException) -> str:
    """Describe the first error: the end of a capture that failed raises another one."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
