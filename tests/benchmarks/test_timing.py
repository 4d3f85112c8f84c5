"""Timing, and what is read from torch's profiler and its warnings of synchronizations."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch.autograd import DeviceType

from flowpp.benchmark import launches, timing


def test_functions_are_timed_alternately():
    order = []
    times = timing.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, warm_up=1, repeats=2
    )
    assert order == ["a", "b"] * 3
    assert {name: len(durations) for name, durations in times.items()} == {"a": 2, "b": 2}


def test_a_call_on_the_cpu_is_finished_when_it_returns():
    duration = timing.timed(lambda: time.sleep(0.01))
    assert duration.seconds == duration.host >= 0.01
    assert duration.device is None


class FakeEvent:
    """CUDA event that reads a clock of its own."""

    clock = 0.0

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self):
        self.time = FakeEvent.clock

    def elapsed_time(self, end):
        return end.time - self.time


def test_device_time_is_that_between_the_events(monkeypatch):
    """Host: until the call returned; seconds: until the device is synchronized."""
    waits = []

    def synchronize(device=None):
        waits.append(device)
        time.sleep(0.02)

    def call():
        FakeEvent.clock += 7.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "device", lambda device: warnings.catch_warnings())
    duration = timing.timed(call, torch.device("cuda", 0))
    assert duration.device == pytest.approx(7e-3)
    assert len(waits) == 2 and duration.host < 0.02 <= duration.seconds
    assert timing.fastest(call, 2, torch.device("cuda", 0)) == pytest.approx(7e-3)


@dataclass
class Range:
    microseconds: float

    def elapsed_us(self):
        return self.microseconds


@dataclass
class ProfiledEvent:
    name: str
    device_type: DeviceType
    microseconds: float = 0.0
    is_user_annotation: bool = False

    @property
    def time_range(self):
        return Range(self.microseconds)


def test_kernels_and_launches_of_a_profile():
    events = [
        ProfiledEvent("gemm", DeviceType.CUDA, 2000.0),
        ProfiledEvent("add", DeviceType.CUDA, 10.0),
        ProfiledEvent("add", DeviceType.CUDA, 20.0),
        ProfiledEvent("Optimizer.step", DeviceType.CUDA, 9e6, is_user_annotation=True),
        ProfiledEvent("cudaLaunchKernel", DeviceType.CPU),
        ProfiledEvent("cudaLaunchKernel", DeviceType.CPU),
        ProfiledEvent("cudaGraphLaunch", DeviceType.CPU),
        ProfiledEvent("cudaStreamSynchronize", DeviceType.CPU),
        ProfiledEvent("aten::add", DeviceType.CPU),
    ]
    found = launches.summarized(events)
    assert found["kernels"] == 3 and found["device_busy_ms"] == pytest.approx(2.03)
    assert found["launch_calls_by_name"] == {"cudaLaunchKernel": 2, "cudaGraphLaunch": 1}
    assert found["longest"] == [["gemm", 1, 2.0], ["add", 2, 0.03]]


def test_a_real_profile_has_what_is_read():
    """On the CPU: the events have the attributes that `summarized` uses, and no kernels."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        torch.ones(3).add(1)
    events = list(profiler.events())
    assert events and all(hasattr(e, "is_user_annotation") for e in events)
    assert all(e.time_range.elapsed_us() >= 0 for e in events)
    assert launches.summarized(events)["kernels"] == 0


def test_synchronizations_are_counted_by_line(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)

    def step():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered in ...)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    found = launches.host_synchronizations(step, torch.device("cuda", 0))
    assert modes == ["warn", 0] and found["count"] == 3
    ((place, count),) = found["lines"].items()
    assert count == 3 and place.startswith("benchmarks/test_timing.py:")
    assert "warnings.warn(" in place
