"""The shuffled sampler and its resumption."""

from __future__ import annotations

import pytest
import torch

from flowpp.training.batches import ShuffledBatches


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_epochs_are_shuffled_without_replacement():
    batches = ShuffledBatches(10, 3, generator())
    epochs = [torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(4)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set().union(*epochs) == set(range(10))  # images dropped by one epoch occur in others


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
