"""Training with a captured step, on a graph that repeats a function in place of its kernels."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import signal
import weakref
from types import SimpleNamespace

import pytest
import torch
from conditional_images import conditional_images

from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.run import Run
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.signals import TrainingInterrupted
from flowpp.training import loop, step
from flowpp.training.captured_step import (
    WARM_UP,
    CapturedStep,
    CaptureError,
    CudaGraph,
    uses_graph,
)
from flowpp.training.loop import train
from flowpp.training.setup import prepare


class FakeGraph:
    """A graph that calls the captured function, with the tensors of the capture."""

    def __init__(self):
        self.function = self.outcome = None
        self.warm_ups = self.replays = 0

    def warm_up(self, function):
        self.warm_ups += 1
        return function()

    def capture(self, function):
        torch.rand(1)  # as a capture that draws random numbers would
        self.function = function
        self.outcome = torch.full((2,), math.nan, dtype=torch.float64)
        return self.outcome

    def replay(self):
        self.replays += 1
        self.outcome.copy_(self.function())


class FailingGraph(FakeGraph):
    def capture(self, function):
        try:
            raise ValueError("capture of this operation is not supported")
        finally:
            raise RuntimeError("invalid capture")  # as torch's does at the end of the capture


@pytest.fixture(autouse=True)
def _skips_on_device(monkeypatch):
    """The step works as on a CUDA device: it skips updates without asking the host."""
    original = step.TrainingStep.__init__

    def init(self, *args):
        original(self, *args)
        self.skips_on_device = True

    monkeypatch.setattr(step.TrainingStep, "__init__", init)


def with_graph(monkeypatch, kind=FakeGraph, *, required=False):
    """Train with a captured step from now on; returns the graphs made."""
    graphs = []

    def capturing(step, settings, group, message):
        graphs.append(kind())
        return CapturedStep(step, graphs[-1], message, required=required)

    monkeypatch.setattr(loop, "capturing", capturing)
    return graphs


def corrupt_noise(monkeypatch, steps):
    """Make the noise of these steps, counted from 1, infinite."""
    original = loop.Trainer._next_batch

    def next_batch(self):
        x, noise = original(self)
        return x, (noise * math.inf if self.state.step + 1 in steps else noise)

    monkeypatch.setattr(loop.Trainer, "_next_batch", next_batch)


def contents(path):
    """Return the last checkpoint's tensors, and the metrics without times."""
    checkpoint = Run.open(path).load_checkpoint()
    tensors = {**checkpoint.weights, **checkpoint.state}
    tensors |= {f"ema/{name}": tensor for name, tensor in checkpoint.ema.items()}
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("images_per_second", None)
    return tensors, lines


def assert_same(path, other):
    (tensors, lines), (expected, expected_lines) = contents(path), contents(other)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in tensors.items())
    assert lines == expected_lines


def with_training(config, **changes):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


@pytest.mark.parametrize(
    ("corrupted", "optimizer"),
    [((), "adam"), ((2,), "adam"), ((5, 6), "adam"), ((7,), "adam"), ((5,), "muon")],
    ids=str,
)
def test_a_captured_run_equals_another_bit_for_bit(
    config, tmp_path, monkeypatch, corrupted, optimizer
):
    config = with_training(config, accumulate=2, log_every=3, optimizer=optimizer)
    corrupt_noise(monkeypatch, corrupted)
    monkeypatch.setattr(loop, "steps_between_reads", lambda *_: 3)
    train(config, tmp_path / "plain")
    graphs = with_graph(monkeypatch)
    train(config, tmp_path / "captured")
    assert graphs[0].warm_ups == WARM_UP
    assert graphs[0].replays >= 7 - WARM_UP
    assert_same(tmp_path / "captured", tmp_path / "plain")
    if not corrupted:
        return
    kept = sorted(path.name for path in (tmp_path / "plain" / "non-finite").iterdir())
    assert len(kept) == len(corrupted)
    for name in kept:
        batches = [
            Checkpoint.load(tmp_path / run / "non-finite" / name).state
            for run in ("plain", "captured")
        ]
        assert batches[0].keys() == batches[1].keys()
        assert all(same_numbers(t, batches[1][n]) for n, t in batches[0].items())


def test_a_captured_conditional_run_equals_another_bit_for_bit(config, tmp_path, monkeypatch):
    config, images = with_training(config, batch_size=8), conditional_images("labels")

    def trained(out):
        train(config, out, prepare(config, images=images))

    trained(tmp_path / "plain")
    graphs = with_graph(monkeypatch)
    trained(tmp_path / "captured")
    assert graphs[0].replays >= 7 - WARM_UP
    assert_same(tmp_path / "captured", tmp_path / "plain")


def same_numbers(a, b):
    return a.numpy().tobytes() == b.numpy().tobytes()


def test_a_resumed_captured_run_equals_an_uninterrupted_one(config, tmp_path, monkeypatch):
    with_graph(monkeypatch)
    train(config, tmp_path / "uninterrupted")
    original, count = loop.Trainer._next_batch, 0

    def interrupt(self):
        nonlocal count
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_next_batch", interrupt)
        with pytest.raises(TrainingInterrupted):
            train(config, tmp_path / "resumed")
    train(config, tmp_path / "resumed", resume=True)
    assert_same(tmp_path / "resumed", tmp_path / "uninterrupted")


def test_inputs_and_gradients_of_replays_keep_their_addresses(config, tmp_path, monkeypatch):
    addresses = set()
    original = step.TrainingStep.compute

    def compute(self, x, noise):
        parameters = list(self.state.model.parameters())
        kept = [x, noise, self.halted, *parameters, *self.state.ema.average.values()]
        kept += [t for entry in self.state.optimizer.state.values() for t in entry.values()]
        if len(kept) > 3 + 2 * len(parameters):  # the optimizer has made its averages
            addresses.add(tuple(t.data_ptr() for t in kept[2:]))
            inputs.append((x.data_ptr(), noise.data_ptr()))
        return original(self, x, noise)

    inputs = []
    with_graph(monkeypatch)
    monkeypatch.setattr(step.TrainingStep, "compute", compute)
    train(config, tmp_path / "run")  # with evaluations and checkpoints between the steps
    assert len(addresses) == 1
    assert len(set(inputs[WARM_UP:])) == 1


def test_a_failed_capture_is_told_and_training_continues(config, tmp_path, monkeypatch, capsys):
    train(config, tmp_path / "plain")
    with_graph(monkeypatch, FailingGraph)
    train(config, tmp_path / "failing")
    line = "training without a graph, which failed: ValueError: capture of this operation"
    assert capsys.readouterr().out.count(line) == 1
    assert_same(tmp_path / "failing", tmp_path / "plain")


def test_a_failed_capture_that_was_asked_for_is_an_error(config, tmp_path, monkeypatch):
    with_graph(monkeypatch, FailingGraph, required=True)
    with pytest.raises(CaptureError, match="cuda_graph must be off or auto.*got on.*ValueError"):
        train(config, tmp_path / "run")


def test_a_failed_capture_leaves_no_memory_reserved(monkeypatch):
    """A graph that cannot be instantiated has captured the step, and owns its memory."""

    class Graph:
        """torch's object, which frees its memory when it is deleted."""

    @contextlib.contextmanager
    def capturing(graph, **_):
        yield
        raise RuntimeError("CUDA error: out of memory")

    device = torch.device("cuda", 0)
    generator = SimpleNamespace(clone_state=lambda: 0, graphsafe_set_state=lambda state: None)
    for name, value in {
        "Stream": lambda device: None,
        "CUDAGraph": Graph,
        "graph": capturing,
        "current_stream": lambda device: SimpleNamespace(device_index=0),
        "set_stream": lambda stream: None,
        "default_generators": (generator,),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    graph = CudaGraph(device)
    failed = weakref.ref(graph.graph)
    with contextlib.suppress(RuntimeError):
        graph.capture(lambda: torch.zeros(2))
    gc.collect()
    assert failed() is None


@pytest.mark.parametrize(
    ("device", "changes", "size", "reason"),
    [
        ("cpu", {}, 1, "the device is cpu"),
        ("cuda", {}, 2, "several processes"),
        ("cuda", {"memory": "low"}, 1, "training.memory low"),
    ],
)
def test_a_graph_is_refused_where_it_is_not_possible(config, device, changes, size, reason):
    device, group = torch.device(device), ProcessGroup(0, size)
    automatic = with_training(config, cuda_graph="auto", **changes).training
    assert not uses_graph(automatic, device, group)
    with pytest.raises(ValueError, match=f"must be auto or off here, got on: {reason}"):
        uses_graph(dataclasses.replace(automatic, cuda_graph="on"), device, group)


def test_a_graph_is_the_default_on_one_gpu_alone(config):
    assert uses_graph(config.training, torch.device("cuda"), SINGLE_PROCESS)
    off = with_training(config, cuda_graph="off").training
    assert not uses_graph(off, torch.device("cuda"), SINGLE_PROCESS)


def test_the_refusal_precedes_the_run_directory(config):
    with pytest.raises(ValueError, match=r"training\.cuda_graph .* the device is cpu"):
        prepare(with_training(config, cuda_graph="on", device="cpu"))
