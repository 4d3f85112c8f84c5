"""Adapters of other libraries: correct maps, reasons for missing ones, and known defects."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from conformance.adapter import NotSupported
from conformance.adapters.spec_view import SpecView, parameters
from conformance.adapters.torch_arrays import at_positions
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS

pytestmark = pytest.mark.filterwarnings("ignore")

SUPPORTED = {
    "torch_distributions:TorchDistributionsAdapter": (
        "act_norm/channel",
        "affine/per_example",
        "data_logit/256_levels",
        "channel_split",
        "inverse/sigmoid",
    ),
    "zuko:ZukoAdapter": (
        "act_norm/activation",
        "affine/per_example",
        "mixture_logistic/four_components",
        "invertible_conv_lu/halves",
        "flip",
        "coupling/mixture_with_context",
    ),
    "nflows:NflowsAdapter": (
        "act_norm/channel",
        "affine/shared",
        "squeeze",
        "flip",
        "invertible_conv_lu/joint",
        "coupling/affine_with_context",
    ),
    "normflows:NormflowsAdapter": (
        "act_norm/channel",
        "affine/shared",
        "squeeze",
        "invertible_conv/halves",
        "invertible_conv_lu/joint",
        "coupling/affine",
        "inverse/data_logit",
    ),
    "pyro:PyroAdapter": (
        "invertible_conv/halves",
        "invertible_conv_lu/joint",
        "flip",
        "coupling/affine",
    ),
    "flowjax:FlowjaxAdapter": ("affine/shared", "checkerboard", "invertible_conv_lu/halves"),
    "distrax:DistraxAdapter": (
        "act_norm/activation",
        "affine/per_example",
        "flip",
        "invertible_conv/halves",
        "invertible_conv_lu/halves",
        "coupling/affine_with_context",
        "inverse/data_logit",
    ),
    "tfp:TfpAdapter": (
        "act_norm/channel",
        "affine/per_example",
        "checkerboard",
        "squeeze",
        "flip",
        "invertible_conv/halves",
        "invertible_conv_lu/joint",
        "coupling/affine_with_context",
        "chain/empty",
        "inverse/data_logit",
    ),
    "freia:FreiaAdapter": (
        "act_norm/activation",
        "act_norm/channel",
        "affine/per_example",
        "squeeze",
        "flip",
        "invertible_conv/halves",
        "coupling/affine_with_context",
        "inverse/data_logit",
    ),
}
PACKAGES = {"tfp": "tensorflow_probability.substrates.jax", "freia": "FrEIA"}
"""Packages whose names differ from their adapter's module."""
FAILING = (
    ("torch_distributions:TorchDistributionsAdapter", "sigmoid", "log_det", "float64"),
    (
        "torch_distributions:TorchDistributionsAdapter",
        "mixture_logistic/ties",
        "forward",
        "float32",
    ),
    ("nflows:NflowsAdapter", "sigmoid", "round_trip_x", "float64"),
    ("nflows:NflowsAdapter", "invertible_conv/joint", "inverse", "float32"),
    ("normflows:NormflowsAdapter", "flip", "contract", "float64"),
    ("zuko:ZukoAdapter", "mixture_logistic/line", "special_values", "float32"),
    ("freia:FreiaAdapter", "sigmoid", "both_tails", "float64"),
    ("distrax:DistraxAdapter", "sigmoid", "round_trip_x", "float64"),
)
UNSUPPORTED = (
    ("torch_distributions:TorchDistributionsAdapter", "squeeze", "has no Squeeze"),
    ("torch_distributions:TorchDistributionsAdapter", "chain/empty", "no empty composition"),
    ("zuko:ZukoAdapter", "squeeze", "zuko has no Squeeze"),
    ("nflows:NflowsAdapter", "affine/per_example", "one scale for all examples"),
    ("normflows:NormflowsAdapter", "checkerboard", "alternates from channel to channel"),
    ("pyro:PyroAdapter", "coupling/mixture", "no coupling of logistic mixtures"),
    ("flowjax:FlowjaxAdapter", "coupling/affine", "makes its own network"),
    ("distrax:DistraxAdapter", "mixture_logistic/line", "has no CDF"),
    ("tfp:TfpAdapter", "coupling/mixture", "no coupling of logistic mixtures"),
    ("freia:FreiaAdapter", "invertible_conv_lu/joint", "has a full matrix"),
)


def adapter(name: str):
    """Return the adapter class, if its library is installed."""
    module, _, kind = name.partition(":")
    if module != "torch_distributions":
        package = PACKAGES.get(module, module)
        pytest.importorskip(package, reason=f"{package} is not installed: tox -e libraries")
    return getattr(importlib.import_module(f"conformance.adapters.{module}"), kind)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n, cases in SUPPORTED.items() for c in cases]
)
def test_a_built_map_agrees_with_its_specification(name, case, dtype):
    kind, rng = adapter(name), np.random.default_rng(0)
    spec = CASES[case].build(rng)
    context = CASES[case].context
    context = None if context is None else context(rng).astype(dtype)
    x = CASES[case].typical(rng).astype(dtype)
    built = kind(dtype).build(spec)
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-3}
    )
    for direction in ("forward", "inverse"):
        expected = getattr(spec, direction)(x, context)
        got = getattr(built, direction)(x, context)
        for computed, exact in zip(got, expected, strict=True):
            assert computed.dtype == dtype and computed.shape == exact.shape
            np.testing.assert_allclose(computed, exact, **tolerance)
        x = expected[0].astype(dtype)


@pytest.mark.parametrize(("name", "case", "law", "dtype"), FAILING)
def test_known_defects_fail(name, case, law, dtype):
    assert Judge(adapter(name)).judge(CASES[case], LAWS[law], dtype).status == "fails"


@pytest.mark.parametrize(("name", "case", "reason"), UNSUPPORTED)
def test_missing_maps_are_not_supported(name, case, reason):
    kind = adapter(name)
    with pytest.raises(NotSupported, match=reason):
        kind().build(CASES[case].build(np.random.default_rng(0)))


def test_an_empty_batch_has_parameters_of_the_right_shape():
    rng = np.random.default_rng(0)
    spec = CASES["coupling/affine"].build(rng)
    half, _ = np.split(CASES["coupling/affine"].typical(rng), 2, axis=1)
    assert parameters(SpecView(spec, {}), half[:0], None).shape == (0, *half.shape[1:], 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_library_that_refuses_an_empty_batch_does_not_support_it(dtype):
    kind = adapter("torch_distributions:TorchDistributionsAdapter")
    result = Judge(kind).judge(CASES["affine/shared"], LAWS["batch"], dtype)
    assert result.status == "unsupported" and result.compared > 1000
    assert "torch.distributions accepts no empty batch: " in result.message
    assert "holds elsewhere" in result.message


def test_an_empty_batch_is_the_librarys_own_answer():
    """Also of the adapter's own code around a library's maps of vectors."""
    calls = []

    def counted(rows):
        calls.append(rows.shape)
        return rows, torch.zeros(len(rows))

    output, log_det = at_positions(counted)(torch.zeros(0, 2, 3, 4), None)
    assert calls == [(0, 2)] and output.shape == (0, 2, 3, 4) and log_det.shape == (0,)


def test_a_mixture_of_torch_has_no_inverse():
    kind = adapter("torch_distributions:TorchDistributionsAdapter")
    built = kind().build(CASES["mixture_logistic/line"].build(np.random.default_rng(0)))
    with pytest.raises(NotSupported, match="no icdf"):
        built.inverse(np.zeros((1, 1, 1, 1)))


def test_a_model_is_not_supported():
    with pytest.raises(NotSupported, match="must be a bijector"):
        adapter("torch_distributions:TorchDistributionsAdapter")().build(
            CASES["flow_plus_plus/uniform"].build(np.random.default_rng(0))
        )


@pytest.mark.parametrize("case", ["act_norm/floor", "invertible_conv_lu/halves"])
def test_gradients_reach_the_fields(case):
    """The gradients of zuko's maps agree with those of flowpp's twin."""
    from conformance.adapters.flowpp import FlowppAdapter

    kind, rng = adapter("zuko:ZukoAdapter"), np.random.default_rng(0)
    spec, x = CASES[case].build(rng), CASES[case].typical(rng)
    arguments = (x, None, np.ones_like(spec.forward(x)[0]), np.ones(len(x)))
    got, expected = (k().build(spec).vjp(*arguments) for k in (kind, FlowppAdapter))
    for path, gradient in expected.items():
        if path == "signs":
            continue  # constants of +1 and -1
        np.testing.assert_allclose(got[path], gradient, atol=1e-9, err_msg=path)
