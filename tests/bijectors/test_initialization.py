"""Data-dependent initialization of flowpp's bijectors."""

from __future__ import annotations

import torch

from flowpp.bijectors import ActNorm, Chain, Flip
from flowpp.training.initialization import initialize


class Fitted(Flip):
    """A bijector that counts its initializations and keeps the last batch."""

    count = 0

    def initialize(self, x):
        self.count += 1
        self.batch = x


def test_every_bijector_with_the_method_is_initialized_from_its_input():
    fitted = Fitted()
    x = 3 * torch.randn(64, 2, 2, 2, generator=torch.Generator().manual_seed(0)) + 1
    y, _ = initialize(Chain([ActNorm.create(2), fitted]), x)
    assert fitted.count == 1
    torch.testing.assert_close(fitted.batch.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert torch.equal(y, Flip()(fitted.batch)[0])
