"""A family's functions, which couplings use, give the bits of its members."""

from __future__ import annotations

import pytest
import torch

from flowpp.bijectors import Affine, Bijector, Coupling, Flip
from flowpp.elementwise import AffineFamily, Family, MixtureLogisticFamily

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


class Shift(Family):
    """A family of one's own: translations."""

    parameters_per_scalar = 1

    def forward(self, parameters):
        return Affine(torch.zeros_like(parameters[..., 0]), parameters[..., 0])


class Doubled(AffineFamily):
    """A subclass that redefines the members, but not the functions of its base."""

    def forward(self, parameters):
        return Affine(parameters[..., 0], 2 * parameters[..., 1])


class Members:
    """A mixin that redefines the members."""

    def forward(self, parameters):
        return Affine(parameters[..., 0], 3 * parameters[..., 1])


class Mixed(Members, AffineFamily):
    """A family whose members come from a mixin, ahead of the functions of its base."""


class Softer(MixtureLogisticFamily):
    """A subclass that redefines the fields of the members."""

    def fields(self, parameters):
        (logits, means, log_scales), affine = super().fields(parameters)
        return (logits / 2, means, log_scales), affine


@pytest.mark.parametrize(
    "family", [Shift(), Doubled(), Mixed(), Softer(2)], ids=lambda f: type(f).__name__
)
def test_a_coupling_follows_the_members_of_a_family_that_defines_no_functions(family):
    x = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    per_scalar = family.parameters_per_scalar
    coupling = Coupling(lambda a, context: a.repeat_interleave(per_scalar, 1), family)
    a, b = x.chunk(2, 1)
    member = family(a[..., None].expand(*a.shape, per_scalar))
    assert torch.equal(coupling(x)[0][:, 2:], member(b)[0])
    assert torch.equal(coupling.inverse(x)[0][:, 2:], member.inverse(b)[0])


@pytest.mark.parametrize("family", [*FAMILIES, Softer(2)], ids=str)
def test_half_precision_parameters_give_the_bits_of_their_conversion(family):
    x = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    per_scalar = family.parameters_per_scalar
    weight = torch.randn(2, per_scalar, generator=torch.Generator().manual_seed(2))

    def results(conditioner):
        y, log_det = (coupling := Coupling(conditioner, family))(x)
        gradient = torch.autograd.grad((y.sin().sum() + log_det.sum()), x)[0]
        return y, log_det, gradient, *coupling.inverse(x)

    def half(a, context):
        return torch.einsum("bchw,cp->bcphw", a, weight).flatten(1, 2).bfloat16()

    expected = results(lambda a, context: half(a, context).float())
    for got, want in zip(results(half), expected, strict=True):
        assert got.dtype is torch.float32
        assert torch.equal(got, want)


def test_a_family_without_functions_is_refused():
    with pytest.raises(TypeError, match="family with transform and inverse_transform.*got func"):
        Coupling(lambda a, context: a, lambda parameters: None)


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


class Tempered(Bijector):
    """A bijector with an argument of its own."""

    def forward(self, x, context=None, *, temperature=1.0):
        return temperature * x, x.new_zeros(len(x))


def test_further_arguments_are_passed_on():
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(Tempered()(x, temperature=2.0)[0], 2 * x)
    with pytest.raises(ValueError, match=r"^Tempered needs shape"):
        Tempered()(x[0], temperature=2.0)
