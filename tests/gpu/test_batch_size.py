"""Batch sizes by a GPU's memory. A CUDA device must show them itself."""

from __future__ import annotations

import pytest
import torch

from flowpp.config import presets
from flowpp.config.build import build_model
from flowpp.data import load
from flowpp.evaluation.batch_size import LARGEST, activation_megabytes
from flowpp.evaluation.importance import batch_for, importance_bounds
from flowpp.evaluation.sampling import sample
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.initialization import initialize

pytestmark = [pytest.mark.gpu, pytest.mark.hardware]
BITS = 1e-4
"""Bound in bits per dimension on what another batch size changes, by rounding."""


@pytest.fixture(scope="module")
def images():
    return load(presets.get("digits").data)


@pytest.fixture
def model(images):
    model = build_model(
        presets.get("digits").model, images.shape, images.levels, seeded_generator(0)
    )
    x = torch.from_numpy(images.train[:64]).float()
    noise = model.dequantizer.draw_noise(x.shape, generator=seeded_generator(1))
    initialize(model.eval(), x, noise)
    return model.to("cuda")


def peak(run):
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def test_a_batch_takes_the_memory_it_was_chosen_for(model, images):
    small = batch_for(model, images.shape, 8)
    assert 1 <= small < LARGEST
    batch = batch_for(model, images.shape, 16)
    assert batch == pytest.approx(2 * small, rel=0.3)
    # Half of the free memory is asked for, so that twice as much still fits.
    assert peak(lambda: importance_bounds(model, images.test[:batch], 1, batch=batch)) < 2 * 16
    assert activation_megabytes(torch.device("cuda")) > 100


def test_out_of_memory_halves_the_batch(model, images, capsys):
    expected = importance_bounds(model, images.test, 4, batch=64)[4].mean
    drawn = sample(model, images.shape, 256, seeded_generator(0), batch=64)
    needed = peak(lambda: importance_bounds(model, images.test, 4, batch=64))
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    allowed = torch.cuda.memory_reserved() + 4 * needed * 2**20
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        bounds = importance_bounds(model, images.test, 4, batch=1188)
        again = sample(model, images.shape, 256, seeded_generator(0), batch=256)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with" in capsys.readouterr().err
    assert bounds[4].mean == pytest.approx(expected, abs=BITS)
    assert (again != drawn).mean() < 0.01
