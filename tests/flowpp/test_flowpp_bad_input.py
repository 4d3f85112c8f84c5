"""What the torch tree says to input it cannot use: who, what was needed, what came."""

from __future__ import annotations

import pytest
import torch

from flowpp import bijectors as b
from flowpp.conditioner import Conditioner, Conv2d, GatedAttention, GatedConv
from flowpp.config import FlowConfig, ModelConfig
from flowpp.dequantization import UniformDequantizer
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily
from flowpp.layout import parse_layout
from flowpp.model import build_model
from flowpp.objective import bits_per_dim, importance_weighted_bound

ALL = {
    "act_norm": b.ActNorm.create(4),
    "affine": b.Affine(torch.zeros(1), torch.zeros(1)),
    "chain": b.Chain([b.Flip()]),
    "channel_split": b.ChannelSplit(),
    "checkerboard": b.Checkerboard(),
    "column_stripes": b.ColumnStripes(),
    "coupling": b.Coupling(Conditioner(Conv2d.create(2, 4), []), AffineFamily()),
    "data_logit": b.DataLogit(256),
    "factor_out": b.FactorOut(b.Flip()),
    "flip": b.Flip(),
    "inverse": b.Inverse(b.Flip()),
    "invertible_conv": b.InvertibleConv.create(4),
    "invertible_conv_lu": b.InvertibleConvLU.create(4),
    "mixture_logistic": b.MixtureLogistic(*torch.zeros(3, 2)),
    "sigmoid": b.Sigmoid(),
    "squeeze": b.Squeeze(),
}


def test_every_bijector_is_asked():
    classes = {type(bijector).__name__ for bijector in ALL.values()}
    assert classes == set(b.__all__) - {"Bijector"}


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", ALL)
def test_wrong_rank(name, direction):
    with pytest.raises(ValueError, match=r"needs shape \(batch, channels, height, width\), got"):
        getattr(ALL[name], direction)(torch.zeros(4, 4, 4))


@pytest.mark.parametrize("name", ALL)
def test_integers(name):
    with pytest.raises(TypeError, match="needs a floating-point tensor, got torch.int64"):
        ALL[name](torch.zeros(1, 4, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("bijector", "shape", "message"),
    [
        (b.ColumnStripes(), (1, 3, 4, 5), "ColumnStripes needs an even width, got 5"),
        (b.Checkerboard(), (1, 3, 4, 5), "Checkerboard needs an even width, got 5"),
        (b.Squeeze(), (1, 3, 5, 4), "Squeeze needs an even height, got 5"),
        (b.Squeeze(), (1, 3, 4, 5), "Squeeze needs an even width, got 5"),
        (b.Inverse(b.Squeeze()), (1, 6, 4, 4), "a multiple of 4 as number of channels, got 6"),
        (b.Flip(), (1, 3, 4, 4), "Flip needs an even number of channels, got 3"),
        (b.ChannelSplit(), (1, 3, 4, 4), "ChannelSplit needs an even number of channels, got 3"),
        (ALL["coupling"], (1, 3, 4, 4), "Coupling needs an even number of channels, got 3"),
        (ALL["factor_out"], (1, 3, 4, 4), "FactorOut needs an even number of channels, got 3"),
        (ALL["invertible_conv"], (1, 3, 4, 4), "InvertibleConv needs 4 channels, got 3"),
        (ALL["act_norm"], (1, 3, 4, 4), "ActNorm needs gain and bias that broadcast"),
        (b.FactorOut(b.Squeeze()), (1, 4, 4, 4), "FactorOut needs a bijector that keeps the sha"),
    ],
)
def test_shapes_that_do_not_fit(bijector, shape, message):
    with pytest.raises(ValueError, match=message):
        bijector(torch.zeros(shape))


def test_a_conditioner_of_another_width_is_refused():
    coupling = b.Coupling(Conditioner(Conv2d.create(2, 5), []), AffineFamily())
    with pytest.raises(
        ValueError, match=r"parameters of shape \(1, 4, 4, 4\).* got \(1, 5, 4, 4\)"
    ):
        coupling(torch.zeros(1, 4, 4, 4))


@pytest.mark.parametrize("weight", [torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan)])
def test_singular_and_non_finite_matrices_are_refused(weight):
    convolution = b.InvertibleConv(weight)
    for direction in (convolution.forward, convolution.inverse):
        with pytest.raises(ValueError, match="finite, non-singular matrices, got"):
            direction(torch.zeros(1, 2, 4, 4))


def test_a_matrix_that_float64_cannot_invert_is_refused_with_its_condition():
    weight = torch.tensor([[[1.0, 2.0], [3.0, 6.0 + 1e-15]]], dtype=torch.float64)
    convolution = b.InvertibleConv(weight)
    with pytest.raises(ValueError, match="float64 can invert, got condition numbers"):
        convolution.inverse(torch.zeros(1, 2, 1, 1, dtype=torch.float64))


def test_a_badly_scaled_matrix_is_not_a_singular_one():
    weight = torch.diag(torch.tensor([1e-20, 1.0], dtype=torch.float64))[None]
    convolution = b.InvertibleConv(weight)
    x = torch.rand(1, 2, 2, 2, dtype=torch.float64)
    y, log_det = convolution(x)
    back, inverse_log_det = convolution.inverse(y)
    assert torch.allclose(back, x, rtol=1e-14, atol=0)
    assert torch.equal(log_det, -inverse_log_det)
    assert convolution.condition_numbers().tolist() == [1.0]


@pytest.mark.parametrize("name", sorted(set(ALL) - {"invertible_conv_lu"}))
def test_nan_comes_out_as_nan(name):
    x = torch.full((1, 4, 4, 4), 0.5)
    x[0, 3, 3, 3] = torch.nan
    y, _ = ALL[name](x)
    assert torch.isnan(y).any()


@pytest.mark.parametrize(
    ("value", "shown"), [(-1.0, "-1.0"), (17.0, "17.0"), (2.5, "2.5"), (torch.nan, "nan")]
)
def test_images_outside_the_levels(value, shown):
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match=rf"needs integers within 0 \.\.\. 16, got {shown}"):
        UniformDequantizer(17).sample(x, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b.DataLogit(1), "at least 2 levels, got 1"),
        (lambda: b.DataLogit(8, 0.5), r"margin in \(0, 0.5\), got 0.5"),
        (lambda: UniformDequantizer(1), "at least 2 levels, got 1"),
        (
            lambda: b.ActNorm(torch.ones(2), torch.ones(2)),
            r"one shape \(channels, height, width\)",
        ),
        (lambda: b.InvertibleConv(torch.zeros(2, 3)), r"weight \(groups, c, c\), got \(2, 3\)"),
        (lambda: Conv2d(torch.zeros(2, 3, 2, 2), torch.zeros(2)), r"k odd, got \(2, 3, 2, 2\)"),
        (lambda: Conv2d(torch.zeros(2, 3, 1, 1), torch.zeros(3)), r"bias of shape \(2,\), got"),
        (lambda: GatedAttention.create(6, 4), "heads that divide 6 filters, got 4"),
        (lambda: MixtureLogisticFamily(0), "at least 1 component, got 0"),
        (lambda: parse_layout("columns"), "got 'columns' in 'columns'"),
        (lambda: parse_layout("rows 4"), "got 'rows 4'"),
        (lambda: parse_layout("columns 0"), "got 'columns 0'"),
        (lambda: bits_per_dim(torch.zeros(1), 0), "at least 1 dimension, got 0"),
        (lambda: importance_weighted_bound(torch.zeros(0, 2)), r"at least 1 sample, got \(0, 2\)"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_context_where_none_is_expected_and_the_other_way_round():
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match=r"needs no context, got one of shape \(1, 3, 2, 2\)"):
        GatedConv.create(4)(x, torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="needs a context, got none"):
        GatedConv.create(4, context=3)(x)


def test_channels_that_a_network_does_not_take():
    network = Conditioner(Conv2d.create(3, 4, 3), [])
    with pytest.raises(ValueError, match=r"needs \(batch, 3, height, width\), got \(1, 2, 4, 4\)"):
        network(torch.zeros(1, 2, 4, 4))


def test_a_layout_that_does_not_fit_the_image():
    config = ModelConfig(flow=FlowConfig(layout="columns 1, squeeze, squeeze", filters=4))
    with pytest.raises(ValueError, match="Squeeze needs an even height, got 3"):
        build_model(config, (1, 6, 6), 256)
