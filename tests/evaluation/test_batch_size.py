"""Batch sizes by memory: what they change, and what happens where the memory does not suffice."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from flowpp import evaluate
from flowpp import sample as sample_command
from flowpp.evaluation import batch_size, bound, importance, sampling
from flowpp.evaluation.batch_size import Batches, activation_megabytes, measured_rows
from flowpp.runs.open_model import load_images, open_model
from flowpp.runtime import machine
from flowpp.runtime.random_state import seeded_generator

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BITS = 1e-5
"""Bound in bits per dimension on what another batch size changes, by rounding."""


@pytest.fixture(scope="module")
def opened(tiny_run):
    return open_model(tiny_run[0])


@pytest.fixture(scope="module")
def test_images(opened):
    return load_images(opened.config).test


def memory_for(largest):
    """Return a wrapper of functions that are out of memory above a number of rows."""
    sizes = []

    def limited(function):
        def call(*arguments):
            rows = next(len(a) for a in arguments if hasattr(a, "__len__"))
            sizes.append(rows)
            if rows > largest:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return function(*arguments)

        return call

    return limited, sizes


def test_out_of_memory_halves_the_batch_once_and_for_all():
    limited, sizes = memory_for(3)
    lines = []
    batches = Batches(16, lines.append)
    x = np.arange(20.0)
    np.testing.assert_array_equal(batches.compute(limited(lambda a, b: a + b), x, 2 * x), 3 * x)
    assert sizes[:4] == [16, 8, 4, 2] and set(sizes[4:]) == {2}
    np.testing.assert_array_equal(batches.compute(limited(np.sqrt), x), np.sqrt(x))
    assert max(sizes[4:]) == 2
    assert lines == ["out of memory with 16 images at once: halving the batch until it fits"]


def test_a_single_row_that_does_not_fit_is_an_error():
    limited, sizes = memory_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        Batches(4, print).compute(limited(np.sqrt), np.arange(8.0))
    assert sizes == [4, 2, 1]


def test_a_batch_has_a_row_at_least():
    assert Batches(1, print).compute(np.sqrt, np.arange(2.0)).tolist() == [0, 1]
    with pytest.raises(ValueError, match="^batch must be at least 1, got 0$"):
        Batches(0, print)


def test_other_errors_are_raised_at_once():
    def fail(x):
        raise ValueError("no root")

    with pytest.raises(ValueError, match="no root"):
        Batches(4, print).compute(fail, np.arange(8.0))


def test_out_of_memory_does_not_change_bounds_and_samples(
    opened, test_images, monkeypatch, capsys
):
    model, shape = opened.model, opened.image_shape

    def results():
        return (
            importance.importance_bounds(model, test_images[:30], 4)[4].mean,
            bound.evaluate_bound(model, test_images[:30], seeded_generator(0))["log_q"].mean,
            sampling.sample(model, shape, 70, seeded_generator(0)),
        )

    expected = results()
    limited, sizes = memory_for(5)
    weights = importance._log_weights
    monkeypatch.setattr(
        importance,
        "_log_weights",
        lambda model, images, pairs, seed: limited(
            lambda pairs: weights(model, images, pairs, seed)
        )(pairs),
    )
    monkeypatch.setattr(model, "elbo", limited(model.elbo))
    monkeypatch.setattr(model, "decode_images", limited(model.decode_images))
    halved = results()
    assert max(sizes) > 5
    assert capsys.readouterr().err.count("out of memory with") == 3
    assert halved[:2] == pytest.approx(expected[:2], abs=BITS)
    differing = np.mean(halved[2] != expected[2])
    assert differing < 0.01  # values that lie on the edge between two levels


@pytest.mark.parametrize("batch", [1, 7, 64, 65, 128, 300])
def test_samples_do_not_depend_on_the_batch(opened, batch):
    expected = sampling.sample(opened.model, opened.image_shape, 150, seeded_generator(3))
    images = sampling.sample(
        opened.model, opened.image_shape, 150, seeded_generator(3), batch=batch
    )
    assert np.mean(images != expected) < 0.01
    if batch == sampling.BATCH:
        np.testing.assert_array_equal(images, expected)


def test_bounds_depend_on_the_batch_by_rounding_only(opened, test_images):
    means = [
        importance.importance_bounds(opened.model, test_images[:64], 1, batch=batch)[1].mean
        for batch in (1, 13, 64)
    ]
    assert max(means) - min(means) < BITS


def test_the_memory_on_a_cpu_is_512_megabytes_or_half_of_what_is_free(monkeypatch, tmp_path):
    def available(text):
        (tmp_path / "meminfo").write_text(text)
        monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
        return activation_megabytes(CPU)

    assert available("MemTotal: 9999999 kB\nMemAvailable: 8388608 kB\n") == 512
    assert available("MemAvailable:  204800 kB\n") == 100
    assert available("nothing") == 512
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    assert activation_megabytes(CPU) == 512


class Gpu:
    """Memory of a GPU: 10 MB at once, and 3 MB for a row."""

    def __init__(self, monkeypatch, free=100 << 20):
        self.held, self.peak, self.ran = 7 << 20, 0, []

        def measured(value):
            def of(device):
                assert device == GPU
                return value()

            return of

        for name, value in {
            "mem_get_info": lambda: (free, 2 * free),
            "memory_reserved": lambda: self.held + (4 << 20),
            "memory_allocated": lambda: self.held,
            "reset_peak_memory_stats": lambda: setattr(self, "peak", self.held),
            "max_memory_allocated": lambda: self.peak,
        }.items():
            monkeypatch.setattr(torch.cuda, name, measured(value))

    def run(self, rows):
        self.ran.append(rows)
        self.peak = self.held + ((10 + 3 * rows) << 20)


def test_a_gpus_memory_is_measured(monkeypatch):
    gpu = Gpu(monkeypatch)
    assert activation_megabytes(GPU) == 0.5 * 104
    assert measured_rows(gpu.run, GPU, 30) == 10
    assert gpu.ran == [1, 1, batch_size.PROBE]
    assert measured_rows(gpu.run, GPU, 0.1) == 1
    assert measured_rows(gpu.run, GPU, 1e9) == batch_size.LARGEST
    assert measured_rows(lambda rows: None, GPU, 2**-11) == 512  # rows need no memory of their own


def test_a_gpu_with_little_memory_starts_with_a_small_batch(monkeypatch):
    gpu, emptied = Gpu(monkeypatch), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))

    def run(rows):
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        gpu.run(rows)

    rows = measured_rows(run, GPU, 30)
    assert rows == batch_size.PROBE // 2 and isinstance(rows, int)
    assert emptied
    with pytest.raises(torch.OutOfMemoryError):  # not even one row
        measured_rows(lambda rows: run(3), GPU, 30)


def test_commands_take_a_batch_size(tiny_run, tmp_path, monkeypatch, capsys):
    seen = []
    bounds = importance.importance_log_probs
    monkeypatch.setattr(
        importance,
        "importance_log_probs",
        lambda *args, **kwargs: seen.append(kwargs["batch"]) or bounds(*args, **kwargs),
    )
    run, out = str(tiny_run[0]), tmp_path / "receipt.json"
    evaluate.main(
        [run, "--device", "cpu", "--images", "9", "--batch-size", "4", "--out", str(out)]
    )
    receipt = json.loads(out.read_text())
    assert seen == [4] and receipt["batch"] == 4 and receipt["memory_megabytes"] is None
    evaluate.main([run, "--device", "cpu", "--images", "9", "--out", str(out)])
    assert json.loads(out.read_text())["memory_megabytes"] == 512
    png = str(tmp_path / "a.png")
    sample_command.main(
        [run, "--device", "cpu", "--count", "3", "--batch-size", "2", "--out", png]
    )
    for command in (evaluate, sample_command):
        with pytest.raises(SystemExit) as stop:
            command.main([run, "--batch-size", "0"])
        assert stop.value.code == 2
        assert "batch_size must be at least 1, got 0" in " ".join(capsys.readouterr().err.split())
