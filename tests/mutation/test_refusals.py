"""Error messages name who refuses (class, and inverse direction), the need, and what came."""

from __future__ import annotations

import pytest
import torch

from bijector_cases import FIRST_CASES, flowpp_bijector
from flowpp import bijectors as b
from flowpp.dequantization import UniformDequantizer
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.objective import bits_per_dim
from flowpp.root_finding import Root, check_finished


def refusal(action) -> tuple[str, str]:
    """Return the two parts of the error message of `action`: who needs what, and what came."""
    with pytest.raises((TypeError, ValueError)) as refused:
        action()
    needed, _, got = str(refused.value).rpartition(", got ")
    return needed, got


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", FIRST_CASES)
def test_a_wrong_number_of_axes(name, direction):
    bijector = flowpp_bijector(name)
    needed, got = refusal(lambda: getattr(bijector, direction)(torch.zeros(4, 4, 5)))
    who = type(bijector).__name__ + (" inverse" if direction == "inverse" else "")
    assert needed.startswith(f"{who} needs ") and "(batch, channels, height, width)" in needed
    assert got == "(4, 4, 5)"


def images(channels, height=2, width=2):
    return torch.zeros(1, channels, height, width)


@pytest.mark.parametrize(
    ("action", "who", "needed", "got"),
    [
        (lambda: b.Checkerboard()(images(1, 2, 3)), "Checkerboard", "even width", "3"),
        (lambda: b.Checkerboard().inverse(images(3)), "Checkerboard inverse", "channels", "3"),
        (lambda: b.ColumnStripes()(images(1, 2, 3)), "ColumnStripes", "even width", "3"),
        (lambda: b.ColumnStripes().inverse(images(3)), "ColumnStripes inverse", "channels", "3"),
        (lambda: b.ChannelSplit()(images(3)), "ChannelSplit", "even", "3"),
        (lambda: b.ChannelSplit().inverse(images(3)), "ChannelSplit inverse", "even", "3"),
        (lambda: b.Flip()(images(3)), "Flip", "even", "3"),
        (lambda: b.Flip().inverse(images(5)), "Flip inverse", "even", "5"),
        (lambda: b.Squeeze()(images(1, 3, 2)), "Squeeze", "height", "3"),
        (lambda: b.Squeeze()(images(1, 2, 5)), "Squeeze", "width", "5"),
        (lambda: b.Squeeze().inverse(images(2)), "Squeeze inverse", "multiple of 4", "2"),
        (lambda: b.FactorOut(b.Flip())(images(3)), "FactorOut", "even", "3"),
        (lambda: b.FactorOut(b.Squeeze())(images(2)), "FactorOut", "(1, 1, 2, 2)", "(1, 4, 1, 1)"),
        (lambda: b.InvertibleConv.create(4)(images(3)), "InvertibleConv", "4 channels", "3"),
        (
            lambda: b.InvertibleConv.create(2).inverse(images(3)),
            "InvertibleConv inverse",
            "2 channels",
            "3",
        ),
        (lambda: b.InvertibleConvLU.create(4)(images(3)), "InvertibleConvLU", "4 channels", "3"),
        (
            lambda: b.InvertibleConvLU.create(4, 2).inverse(images(3)),
            "InvertibleConvLU inverse",
            "4 channels",
            "3",
        ),
        (
            lambda: b.Affine(torch.zeros(2), torch.zeros(1))(images(1, 3, 3)),
            "Affine",
            "log_scale",
            "(2,)",
        ),
        (
            lambda: b.Affine(torch.zeros(1), torch.zeros(2)).inverse(images(1, 3, 3)),
            "Affine inverse",
            "shift",
            "(2,)",
        ),
        (
            lambda: b.ActNorm(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))(images(3)),
            "ActNorm",
            "gain and bias",
            "(2, 1, 1)",
        ),
        (
            lambda: b.ActNorm(torch.zeros(1), torch.zeros(2)),
            "ActNorm",
            "(channels, height, width)",
            "(1,) and (2,)",
        ),
        (lambda: b.DataLogit(2, margin=0.0), "DataLogit", "margin in (0, 0.5)", "0.0"),
        (lambda: b.InvertibleConv(torch.zeros(1, 2, 3)), "InvertibleConv", "weight", "(1, 2, 3)"),
        (
            lambda: b.InvertibleConv(torch.ones(1, 2, 2))(images(2)),
            "InvertibleConv",
            "non-singular",
            "log|det W| = -inf",
        ),
        (
            lambda: MixtureLogisticFamily(2)(torch.zeros(1, 1, 1, 1, 3)),
            "MixtureLogisticFamily",
            "8)",
            "shape (1, 1, 1, 1, 3)",
        ),
        (lambda: UniformDequantizer(1), "UniformDequantizer", "2 levels", "1"),
    ],
)
def test_who_needs_what_and_what_came(action, who, needed, got):
    found, came = refusal(action)
    assert found.startswith(f"{who} needs ") and needed in found
    assert came == got


def test_images_and_noise_of_another_shape():
    needed, got = refusal(lambda: UniformDequantizer(4).check_images(torch.zeros(3, 3)))
    assert needed == "images must have shape (batch, channels, height, width)" and got == "(3, 3)"
    needed, got = refusal(
        lambda: UniformDequantizer(2).check_noise(torch.zeros(1), torch.zeros(2))
    )
    assert needed == "noise must have the images' shape (2,)" and got == "(1,)"


@pytest.mark.parametrize("wrong", range(4))
def test_lu_factors_of_inconsistent_shapes(wrong):
    fields = [torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.zeros(2, 3), torch.ones(2, 3)]
    shapes = [tuple(field.shape) for field in fields]
    fields[wrong], shapes[wrong] = torch.zeros(1), (1,)
    needed, got = refusal(lambda: b.InvertibleConvLU(torch.arange(3).repeat(2, 1), *fields))
    assert needed.startswith("InvertibleConvLU needs lower and upper (2, 3, 3)")
    assert got == f"{', '.join(map(str, shapes[:3]))} and {shapes[3]}"


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
    needed, got = refusal(lambda: nearly_singular(1.5 * limit).inverse(y))
    assert needed.startswith("InvertibleConv needs") and "float64" in needed
    assert got.startswith("condition numbers [")


def test_unfinished_roots_are_distinguished_from_missing_ones():
    """Evaluations are 0 for NaN, one above the cap if unfinished, -1 where there is no root."""

    def checked(*counts):
        count = torch.tensor(counts)
        residual = torch.arange(1.0, len(counts) + 1)
        check_finished(Root(residual, residual, residual, count), max_evaluations=5)

    checked(0, 1, 5)
    with pytest.raises(RuntimeError, match="^find_root .*more than 5 evaluations .*1 of 3"):
        checked(0, 6, 5)
    with pytest.raises(RuntimeError, match="^find_root .*no root .*2 of 4 .*residual.* 3$"):
        checked(0, -1, -1, 6)
