"""The shuffled sampler and its resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowpp.training.batches import NoisyImages, ShuffledBatches, _fits, noise_generator
from flowpp.training.setup import prepare


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_epochs_are_shuffled_without_replacement():
    batches = ShuffledBatches(10, 3, generator())
    epochs = [torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(4)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set().union(*epochs) == set(range(10))  # images dropped by one epoch occur in others


@pytest.mark.parametrize(("count", "size"), [(12, 3), (12, 12), (5, 1), (4, 2)])
def test_an_epoch_has_every_image_where_batches_divide_it(count, size):
    batches = ShuffledBatches(count, size, generator())
    for _ in range(3):
        epoch = torch.cat([next(batches) for _ in range(count // size)])
        assert sorted(epoch.tolist()) == list(range(count))


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (3, 3)])
def test_the_sampler_resumes_at_any_position(count, size):
    """Noise is drawn from the same generator between batches."""
    own = generator()
    batches = ShuffledBatches(count, size, own)
    for _ in range(7):
        state, random = batches.state_dict(), own.get_state()
        shared = generator(1)
        again = ShuffledBatches(count, size, shared)
        shared.set_state(random)
        again.load_state_dict(state)
        for _ in range(5):
            assert torch.equal(next(again), next(batches))
            noise = [torch.rand(3, generator=g) for g in (own, shared)]
            assert torch.equal(*noise)
        own.set_state(random)
        batches.load_state_dict(state)
        next(batches)
        torch.rand(3, generator=own)


@pytest.mark.parametrize("size", [3, 4])
def test_the_sampler_returns_to_a_place(size):
    own = generator()
    batches = ShuffledBatches(10, size, own)
    for _ in range(7):
        place, random = batches.place(), own.get_state()
        expected = [next(batches).tolist() for _ in range(5)]
        batches.return_to(place)
        own.set_state(random)
        assert [next(batches).tolist() for _ in range(5)] == expected
        batches.return_to(place)
        own.set_state(random)
        next(batches)


def test_images_of_a_file_that_cannot_be_written_to_are_drawn(tiny_config, tmp_path):
    images, model = prepare(tiny_config)
    np.save(tmp_path / "images.npy", images.train)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    indices = torch.tensor([5, 1, 1, 1499])
    x, noise = NoisyImages(mapped, model).draw(indices, generator())
    assert x.dtype == noise.dtype == torch.float32 and x.shape == noise.shape
    assert torch.equal(x, torch.from_numpy(images.train[indices.numpy()]).float())
    assert torch.equal(noise, torch.randn(x.shape, generator=generator()))


def test_processes_draw_different_noise():
    draws = [
        torch.randn(8, generator=noise_generator(seed, rank)).tolist()
        for seed in range(3)
        for rank in range(4)
    ]
    assert len(set(map(tuple, draws))) == 12


def test_the_noise_of_a_run_is_that_of_earlier_versions():
    """A resumed run continues the noise of its seed and rank."""
    seeds = [noise_generator(*pair).initial_seed() for pair in ((0, 0), (0, 1), (7, 3))]
    assert seeds == [15793235383387715774, 5836529245451711556, 5061563556724077661]


def test_the_sampler_resumes_at_the_beginning_of_an_epoch():
    batches = ShuffledBatches(4, 2, generator())
    batches.load_state_dict({"begin": 0, "drawn_from": generator(5).get_state()})
    expected = torch.randperm(4, generator=generator(5))
    assert torch.equal(torch.cat([next(batches), next(batches)]), expected)


def test_a_negative_position_is_refused():
    batches = ShuffledBatches(4, 2, generator())
    with pytest.raises(ValueError, match="position in the epoch must be at least 0, got -1"):
        batches.load_state_dict({"begin": -1, "drawn_from": generator().get_state()})


def test_images_and_noise_are_float32_whatever_the_default(tiny_config):
    images, model = prepare(tiny_config)
    drawn = NoisyImages(images.train, model)
    torch.set_default_dtype(torch.float64)
    try:
        x, noise = drawn.draw(torch.tensor([0, 3]), generator())
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.dtype == noise.dtype == torch.float32


def test_a_gpu_keeps_images_of_a_quarter_of_its_free_memory(monkeypatch):
    device, asked = torch.device("cuda", 0), []
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device: asked.append(device) or (4096, 9999)
    )
    fitting, images = (torch.zeros(n, dtype=torch.int16) for n in (512, 513))
    assert _fits(fitting, device) and not _fits(images, device)
    assert asked == [device, device]


def test_a_cpu_keeps_all_images(tiny_config):
    images, model = prepare(tiny_config)
    assert NoisyImages(images.train, model).on_device
