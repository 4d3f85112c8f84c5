"""Who refuses: a message begins with the name of the class, and of the direction if it is back."""

from __future__ import annotations

import pytest
import torch

from flowpp import bijectors as b
from flowpp.dequantization import UniformDequantizer
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily
from flowpp.objective import bits_per_dim
from flowpp.root_finding import Root, check_finished

ALL = (
    b.ActNorm.create(4),
    b.Affine(torch.zeros(1), torch.zeros(1)),
    b.Chain([]),
    b.ChannelSplit(),
    b.Checkerboard(),
    b.ColumnStripes(),
    b.Coupling(lambda a, context: a, AffineFamily()),
    b.DataLogit(256),
    b.FactorOut(b.Flip()),
    b.Flip(),
    b.InvertibleConv.create(4),
    b.InvertibleConvLU.create(4),
    b.MixtureLogistic(*torch.zeros(3, 2)),
    b.Sigmoid(),
    b.Squeeze(),
)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("bijector", ALL, ids=[type(bijector).__name__ for bijector in ALL])
def test_who_refuses_a_wrong_rank(bijector, direction):
    with pytest.raises(ValueError, match=rf"^{type(bijector).__name__}( inverse)? needs shape"):
        getattr(bijector, direction)(torch.zeros(4, 4, 4))


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: b.Checkerboard().inverse(torch.zeros(1, 3, 2, 2)), "^Checkerboard inverse needs"),
        (lambda: b.ColumnStripes().inverse(torch.zeros(1, 3, 2, 2)), "^ColumnStripes inverse nee"),
        (lambda: b.ChannelSplit()(torch.zeros(1, 3, 2, 2)), "^ChannelSplit needs an even numb"),
        (lambda: b.Squeeze().inverse(torch.zeros(1, 2, 2, 2)), "^Squeeze inverse needs a multi"),
        (lambda: b.FactorOut(b.Flip())(torch.zeros(1, 3, 2, 2)), "^FactorOut needs an even numb"),
        (lambda: b.FactorOut(b.Squeeze())(torch.zeros(1, 2, 2, 2)), "^FactorOut needs a bijector"),
        (lambda: b.InvertibleConv.create(4)(torch.zeros(1, 3, 2, 2)), "^InvertibleConv needs"),
        (lambda: b.InvertibleConvLU.create(4)(torch.zeros(1, 3, 2, 2)), "^InvertibleConvLU needs"),
        (
            lambda: b.InvertibleConvLU.create(4).inverse(torch.zeros(1, 3, 2, 2)),
            "^InvertibleConvLU needs",
        ),
        (
            lambda: b.Affine(torch.zeros(2), torch.zeros(1))(torch.zeros(1, 1, 3, 3)),
            "^Affine needs log_scale that",
        ),
        (
            lambda: b.Affine(torch.zeros(1), torch.zeros(2))(torch.zeros(1, 1, 3, 3)),
            "^Affine needs shift that",
        ),
        (
            lambda: b.ActNorm(torch.zeros(1), torch.zeros(2)),
            r"^ActNorm needs gain and bias of one shape \(channels, height, width\), got",
        ),
        (lambda: b.DataLogit(2, margin=0.0), r"^DataLogit needs a margin in \(0, 0.5\), got 0"),
        (lambda: b.InvertibleConv(torch.zeros(1, 2, 3)), r"^InvertibleConv needs a weight \("),
        (
            lambda: b.InvertibleConv(torch.ones(1, 2, 2))(torch.zeros(1, 2, 1, 1)),
            r"^InvertibleConv needs finite, non-singular matrices, got log\|det W\| = -inf",
        ),
        (
            lambda: b.InvertibleConv(torch.eye(2)[None]).inverse(torch.zeros(1, 3, 1, 1)),
            "^InvertibleConv needs 2 channels, got 3",
        ),
        (
            lambda: MixtureLogisticFamily(2)(torch.zeros(1, 1, 1, 1, 3)),
            "^MixtureLogisticFamily needs parameters ",
        ),
        (
            lambda: UniformDequantizer(2).check_noise(torch.zeros(1), torch.zeros(2)),
            r"^UniformDequantizer needs noise of shape \(2,\), got \(1,\)$",
        ),
        (lambda: UniformDequantizer(1), "^UniformDequantizer needs at least 2 levels, got 1$"),
        (
            lambda: UniformDequantizer(4).check_images(torch.zeros(3, 3, dtype=torch.uint8)),
            r"^UniformDequantizer needs shape \(batch.*got \(3, 3\)$",
        ),
    ],
)
def test_who_refuses_a_wrong_size(refused, message):
    with pytest.raises(ValueError, match=message):
        refused()


@pytest.mark.parametrize("wrong", range(4))
def test_lu_factors_that_do_not_belong_together(wrong):
    fields = [torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.zeros(2, 3), torch.ones(2, 3)]
    shapes = [tuple(field.shape) for field in fields]
    fields[wrong], shapes[wrong] = torch.zeros(1), (1,)
    got = f"got {', '.join(map(str, shapes[:3]))} and {shapes[3]}"
    with pytest.raises(ValueError, match="^InvertibleConvLU needs lower and upper") as refused:
        b.InvertibleConvLU(torch.arange(3).repeat(2, 1), *fields)
    assert str(refused.value).endswith(got)


def test_the_smallest_of_everything_is_accepted():
    assert UniformDequantizer(2).levels == 2
    assert MixtureLogisticFamily(1).components == 1
    assert bits_per_dim(torch.zeros(1), 1) == 0.0


def test_a_root_at_the_cap_of_evaluations_is_finished():
    one = torch.ones(2)
    check_finished(Root(one, one, one, torch.tensor([7, 8])), 8)
    with pytest.raises(RuntimeError, match=r"1 of 2"):
        check_finished(Root(one, one, one, torch.tensor([8, 9])), 8)


def nearly_singular(condition):
    """The rows agree up to 1 / condition."""
    weight = torch.ones(1, 2, 2, dtype=torch.float64)
    weight[0, 1, 1] += 4 / condition
    return b.InvertibleConv(weight)


def test_a_matrix_that_float64_cannot_invert():
    y = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    limit = 1 / (2 * torch.finfo(torch.float64).eps)
    nearly_singular(limit / 4).inverse(y)
    with pytest.raises(ValueError, match="^InvertibleConv needs matrices that float64 can inver"):
        nearly_singular(1.5 * limit).inverse(y)


def test_roots_that_were_not_found_are_told_apart_from_those_that_are_not_there():
    """Evaluations: 0 for what is no number, one above the cap, -1 where there is no root."""

    def checked(*counts):
        count = torch.tensor(counts)
        residual = torch.arange(1.0, len(counts) + 1)
        check_finished(Root(residual, residual, residual, count), max_evaluations=5)

    checked(0, 1, 5)
    with pytest.raises(RuntimeError, match="^find_root needs more than 5 evaluations for 1 of 3"):
        checked(0, 6, 5)
    with pytest.raises(
        RuntimeError,
        match="^find_root found no root for 2 of 4 elements: the function does not reach the "
        "target within the dtype's range; the largest residual left is 3$",
    ):
        checked(0, -1, -1, 6)
