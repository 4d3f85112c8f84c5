"""A family's functions, which couplings use, give the bits of its members."""

from __future__ import annotations

import pytest
import torch

from flowpp.bijectors import Flip
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily

FAMILIES = [AffineFamily(), MixtureLogisticFamily(3), MixtureLogisticFamily(2, -1.0)]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_functions_and_members_agree(family):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 2, generator=generator)
    parameters = torch.randn(*x.shape, family.parameters_per_scalar, generator=generator)
    member = family(parameters)
    for got, expected in (
        (family.transform(x, parameters), member.forward(x)),
        (family.inverse_transform(x, parameters), member.inverse(x)),
    ):
        assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


class Twice(Flip):
    """A subclass that calls the wrapped method of its parent."""

    def forward(self, x, context=None):
        return super().forward(super().forward(x, context)[0], context)


def test_a_subclass_is_checked_under_its_own_name():
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(Twice()(x)[0], x)
    with pytest.raises(ValueError, match="^Twice needs an even number of channels, got 3$"):
        Twice()(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="^Twice inverse needs an even number of channels, got 3"):
        Twice().inverse(torch.zeros(1, 3, 2, 2))
