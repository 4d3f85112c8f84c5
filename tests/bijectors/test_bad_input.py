"""Errors of the torch tree on invalid input: who, what was needed, what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bijector_cases import FIRST_CASES, flowpp_bijector
from flowpp import bijectors as b
from flowpp.conditioner import (
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
)
from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.layout import parse_layout
from flowpp.dequantization import UniformDequantizer, VariationalDequantizer
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim, importance_weighted_bound

ALL = {name: flowpp_bijector(name) for name in FIRST_CASES}
COUPLING = b.Coupling(Conditioner(Conv2d.create(2, 4), []), AffineFamily())


def reference_and_inputs(name, direction):
    """Return the reference twin of `ALL[name]`, typical inputs of a direction, and the context."""
    case, rng = FIRST_CASES[name], np.random.default_rng(0)
    spec, x = case.build(rng), case.typical(rng)
    context = case.context and case.context(rng)
    return spec, x if direction == "forward" else spec.forward(x, context)[0], context


def float32(array):
    return torch.tensor(array, dtype=torch.float32)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", ALL)
def test_wrong_rank(name, direction):
    with pytest.raises(ValueError, match=r"needs shape \(batch, channels, height, width\), got"):
        getattr(ALL[name], direction)(torch.zeros(4, 4, 4))


@pytest.mark.parametrize("name", ALL)
def test_integers(name):
    with pytest.raises(TypeError, match="needs a floating-point tensor, got torch.int64"):
        ALL[name](torch.zeros(1, 4, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", ALL)
def test_an_empty_batch(name, direction):
    _, *inputs = reference_and_inputs(name, direction)
    x, context = (None if a is None else float32(a[:0]) for a in inputs)
    y, log_det = getattr(ALL[name], direction)(x, context)
    assert len(y) == 0 and log_det.shape == (0,)


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
        (COUPLING, (1, 3, 4, 4), "Coupling needs an even number of channels, got 3"),
        (b.FactorOut(b.Flip()), (1, 3, 4, 4), "FactorOut needs an even number of channels, got 3"),
        (b.InvertibleConv.create(4), (1, 3, 4, 4), "InvertibleConv needs 4 channels, got 3"),
        (b.ActNorm.create(4), (1, 3, 4, 4), "ActNorm needs gain and bias broadcast"),
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


FIRST, LAST = (1, 0, 0, 0), (1, -1, -1, -1)
"""Index of a number in the half that a coupling reads, and of one in the half that it maps."""


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("place", [FIRST, LAST], ids=["read", "mapped"])
@pytest.mark.parametrize("name", ALL)
def test_nan_stays_in_its_own_example(name, place, direction):
    spec, x, context = reference_and_inputs(name, direction)
    halved = x.copy()
    halved[place] /= 2
    log_dets = [getattr(spec, direction)(one, context)[1] for one in (x, halved)]
    log_det_depends_on_x = bool(log_dets[0][1] != log_dets[1][1])

    x, context = float32(x), None if context is None else float32(context)
    method = getattr(ALL[name], direction)
    clean_y, clean_log_det = method(x, context)
    x[place] = torch.nan
    y, log_det = method(x, context)
    assert torch.isnan(y).flatten(1).any(1).tolist() == [False, True, False]
    assert torch.isnan(log_det).tolist() == [False, log_det_depends_on_x, False]
    others = [0, 2]
    assert torch.equal(y[others], clean_y[others])
    assert torch.equal(log_det[others], clean_log_det[others])
    assert log_det_depends_on_x or torch.equal(log_det, clean_log_det)


@pytest.mark.parametrize(
    ("value", "shown"), [(-1.0, "-1.0"), (17.0, "17.0"), (2.5, "2.5"), (torch.nan, "nan")]
)
def test_images_outside_the_levels(value, shown):
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match=rf"images must be integers 0 \.\.\. 16, got {shown}"):
        UniformDequantizer(17).sample(x, torch.zeros_like(x))


def variational(levels: int = 17) -> VariationalDequantizer:
    flow = FlowConfig(layout="columns 1", filters=4, blocks=1, components=1)
    context = ContextConfig(filters=4, blocks=1)
    model = build_model(ModelConfig(flow, dequantizer=flow, context=context), (1, 4, 4), levels)
    return model.dequantizer


@pytest.mark.parametrize("method", ["sample", "log_prob"])
@pytest.mark.parametrize("make", [lambda: UniformDequantizer(17), variational])
def test_noise_of_another_shape_or_kind_is_refused(make, method):
    x = torch.zeros(2, 1, 4, 4)
    call = getattr(make(), method)
    for shape in ((1, 1, 4, 4), (2, 1, 4, 5), (4, 4)):
        with pytest.raises(ValueError, match=r"noise must .* shape \(2, 1, 4, 4\), got \("):
            call(x, torch.full(shape, 0.5))
    with pytest.raises(TypeError, match=r"noise must be floating-point, .* got torch.int64"):
        call(x, torch.zeros(x.shape, dtype=torch.int64))


@pytest.mark.parametrize("value", [-0.25, 1.0, torch.nan])
def test_uniform_noise_outside_the_unit_interval_is_refused(value):
    noise = torch.full((2, 1, 2, 2), 0.5)
    noise[1, 0, 0, 1] = value
    with pytest.raises(
        ValueError, match=rf"UniformDequantizer needs noise in \[0, 1\), got {value}"
    ):
        UniformDequantizer(17).sample(torch.zeros(2, 1, 2, 2), noise)


def test_uniform_density_of_nan_is_nan():
    u = torch.full((3, 1, 2, 2), 0.5)
    u[1, 0, 0, 0], u[2, 0, 0, 0] = torch.nan, 1.0
    log_q = UniformDequantizer(17).log_prob(torch.zeros_like(u), u)
    assert log_q[0] == 0 and torch.isnan(log_q[1]) and log_q[2] == -torch.inf


def test_uniform_noise_drawn_in_float64_stays_below_one_in_float32():
    drawn = torch.tensor([0.0, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert drawn.float()[2] == 1
    rounded = UniformDequantizer(17).round_noise(drawn, torch.float32)
    assert rounded.dtype == torch.float32
    assert rounded.tolist() == [0.0, 0.25, 1 - 2**-24]
    assert torch.equal(UniformDequantizer(17).round_noise(drawn, torch.float64), drawn)


def test_a_flow_for_other_levels_than_the_dequantizers_is_refused():
    nested = b.Chain([b.Chain([b.DataLogit(256)]), b.Flip()])
    with pytest.raises(ValueError, match="flow for the dequantizer's 17 levels, got 256"):
        FlowPlusPlus(UniformDequantizer(17), nested)
    FlowPlusPlus(UniformDequantizer(256), nested)
    FlowPlusPlus(UniformDequantizer(17), b.Chain([]))


def lu(**changes: torch.Tensor) -> b.InvertibleConvLU:
    fields = {
        "permutation": torch.tensor([[1, 0], [0, 1]]),
        "lower": torch.zeros(2, 2, 2),
        "upper": torch.zeros(2, 2, 2),
        "log_diagonal": torch.zeros(2, 2),
        "signs": torch.ones(2, 2),
    }
    return b.InvertibleConvLU(**(fields | changes))


def test_invertible_conv_lu_with_good_fields_is_accepted():
    lu(signs=torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))


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
        (
            lambda: lu(permutation=torch.tensor([[1, 1], [0, 1]])),
            r"permutations of 0 \.\.\. 1, got \[\[1, 1\], \[0, 1\]\]",
        ),
        (lambda: lu(permutation=torch.tensor([1, 0])), r"permutation \(groups, c\), got \(2,\)"),
        (lambda: lu(signs=torch.full((2, 2), 0.5)), r"signs \+1 or -1, got \[\[0.5"),
        (lambda: lu(signs=torch.full((2, 2), torch.nan)), r"signs \+1 or -1, got \[\[nan"),
        (lambda: b.InvertibleConvLU.from_matrix(torch.ones(1, 2, 2)), r"signs \+1 or -1"),
        (
            lambda: b.MixtureLogistic(torch.zeros(3), torch.zeros(1), torch.zeros(3)),
            r"the same number of components on their last axis, got shapes \(3,\), \(1,\), \(3",
        ),
        (
            lambda: b.MixtureLogistic(*torch.zeros(3, 2, 0)),
            r"same number of components .* got shapes \(2, 0\)",
        ),
        (lambda: MixtureLogisticFamily(2)(torch.zeros(1, 1, 1, 1, 7)), r"width, 8\), got shape"),
        (lambda: AffineFamily()(torch.zeros(1, 1, 1, 1, 8)), r"width, 2\), got shape \(1, 1"),
        (lambda: GatedConv.create(4, dropout=1.0), "GatedConv needs 0 <= dropout < 1, got 1.0"),
        (lambda: GatedMaxout.create(4, dropout=-0.1), "GatedMaxout needs 0 <= dropout < 1, got"),
        (
            lambda: GatedAttention.create(4, 2, dropout=torch.nan),
            "GatedAttention needs 0 <= dropout < 1, got nan",
        ),
        (
            lambda: GatedMaxout(Conv2d.create(4, 8), Conv2d.create(4, 8)),
            "multiple of 3 as number of projected channels, got 8",
        ),
        (
            lambda: LayerNorm(torch.ones(3), torch.ones(1)),
            r"one shape \(F,\), got \(3,\) and \(1,\)",
        ),
        (
            lambda: Conditioner(Conv2d.create(2, 4), [], position=torch.zeros(4)),
            r"position \(F, H, W\), got shape \(4,\)",
        ),
        (
            lambda: Conditioner(Conv2d.create(2, 4), [], activate_last=True),
            "a proj_out for activate_last, got None",
        ),
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


def test_an_unexpected_context_and_a_missing_one():
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match=r"needs no context, got one of shape \(1, 3, 2, 2\)"):
        GatedConv.create(4)(x, torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="needs a context, got none"):
        GatedConv.create(4, context=3)(x)


@pytest.mark.parametrize("layer", [GatedAttention.create(4, 2), GatedMaxout.create(4)])
@pytest.mark.parametrize("shape", [(4, 1, 1), (2, 2), (1, 4, 2, 2), (4, 2, 3)])
def test_a_position_of_another_shape(layer, shape):
    """Some of these shapes would broadcast, and give several places one embedding."""
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{name} needs a position of shape \(4, 2, 2\), got"):
        layer(torch.zeros(1, 4, 2, 2), torch.zeros(shape))


def test_layer_norm_over_other_channels():
    with pytest.raises(ValueError, match=r"LayerNorm needs \(batch, 4, height, width\), got"):
        LayerNorm.create(4)(torch.zeros(1, 3, 2, 2))


def test_a_wrong_number_of_channels_for_a_network():
    network = Conditioner(Conv2d.create(3, 4, 3), [])
    with pytest.raises(ValueError, match=r"needs \(batch, 3, height, width\), got \(1, 2, 4, 4\)"):
        network(torch.zeros(1, 2, 4, 4))


def test_a_layout_that_does_not_fit_the_image():
    config = ModelConfig(flow=FlowConfig(layout="columns 1, squeeze, squeeze", filters=4))
    with pytest.raises(ValueError, match="multiple of 4 .* got 6: the nearest that fit are 4 and"):
        build_model(config, (1, 6, 6), 256)
