"""Conditional models of the reference against models without contexts, and their errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from conformance.cases import CASES
from reference.bijectors import ActNorm, Chain, Flip, LiftedContext, Squeeze
from reference.conditioner import Conv2d, GatedConv
from reference.conditioner.activation import concat_elu
from reference.context import ImageEncoder, LabelEncoder, VectorEncoder
from reference.model import FlowPlusPlus

CASE = CASES["flow_plus_plus/by_label"]


@pytest.fixture(scope="module")
def model() -> FlowPlusPlus:
    return CASE.build(np.random.default_rng(3))


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    return CASE.typical(np.random.default_rng(4))


def folded(value: Any, features: np.ndarray) -> Any:
    """Return a part of a flow with constant features added to the biases of its networks."""
    if isinstance(value, LiftedContext):
        images = np.tile(features[None, :, None, None], (1, 1, 4, 4))
        lifted = value.lift.forward(images)[0][0, :, 0, 0]
        return folded(value.bijector, lifted)
    if isinstance(value, GatedConv):
        assert value.conv_context is not None
        shift = value.conv_context(concat_elu(features[None, :, None, None]))[0, :, 0, 0]
        conv_in = dataclasses.replace(value.conv_in, bias=value.conv_in.bias + shift)
        return dataclasses.replace(value, conv_in=conv_in, conv_context=None)
    if isinstance(value, tuple):
        return tuple(folded(item, features) for item in value)
    if dataclasses.is_dataclass(value):
        changes = {
            field.name: folded(getattr(value, field.name), features)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    return value


def of_one_label(model: FlowPlusPlus, label: int) -> FlowPlusPlus:
    """Return the unconditional model of the images of a label."""
    features = model.context_encoder.embedding[label]
    network = model.dequantizer.context_network
    proj_in, own = network.proj_in, np.concatenate([[0.0], features] * 2)
    bias = proj_in.bias + np.einsum("oikl,i->o", proj_in.weight, own)
    weight = proj_in.weight[:, own == 0.0]
    network = dataclasses.replace(network, proj_in=Conv2d(weight, bias))
    dequantizer = dataclasses.replace(model.dequantizer, context_network=network)
    return FlowPlusPlus(dequantizer, folded(model.flow, features))


def with_pointwise_projection(model: FlowPlusPlus) -> FlowPlusPlus:
    """Return the model with a 1x1 projection: padding ends a constant at the image's border."""
    network = model.dequantizer.context_network
    weight = network.proj_in.weight[:, :, 1:2, 1:2]
    network = dataclasses.replace(network, proj_in=Conv2d(weight, network.proj_in.bias))
    dequantizer = dataclasses.replace(model.dequantizer, context_network=network)
    return dataclasses.replace(model, dequantizer=dequantizer)


def test_each_label_has_the_density_of_a_model_of_its_own(model, batch):
    model = with_pointwise_projection(model)
    x, noise = batch["x"], batch["noise"]
    totals = []
    for label in range(len(model.context_encoder.embedding)):
        got = model.elbo(x, noise, np.full(len(x), label))
        want = of_one_label(model, label).elbo(x, noise)
        for term in ("log_q", "log_det", "log_prior"):
            np.testing.assert_allclose(getattr(got, term), getattr(want, term), rtol=1e-12)
        totals.append(got.total)
    assert np.ptp(totals, axis=0).min() > 0.1  # the labels differ


def test_decode_undoes_encode_for_contexts_that_differ(model, batch):
    x, noise, labels = batch.values()
    z = model.encode(x, noise, labels)
    given, _ = model.flow_input(x, noise, model.features(labels, x.shape))
    np.testing.assert_allclose(model.decode(z, labels), given, atol=1e-9)
    assert abs(model.decode(z, labels[::-1]) - given).max() > 0.1


def test_missing_surplus_and_wrong_contexts_are_named(model, batch):
    x, noise, labels = batch.values()
    with pytest.raises(ValueError, match="FlowPlusPlus needs a context, got none"):
        model.elbo(x, noise)
    with pytest.raises(ValueError, match="each of the 3 images, got 2"):
        model.elbo(x, noise, labels[:2])
    with pytest.raises(ValueError, match=r"lie in 0 \.\.\. 4, got 5"):
        model.elbo(x, noise, np.array([0, 5, 1]))
    with pytest.raises(ValueError, match="integers of shape"):
        model.elbo(x, noise, labels + 0.5)
    unconditional = FlowPlusPlus(model.dequantizer, model.flow)
    with pytest.raises(ValueError, match="needs no context, got one of shape"):
        unconditional.elbo(x, noise, labels)


def test_encoders_refuse_what_does_not_fit():
    vector = VectorEncoder(np.zeros(2), np.ones(2), np.ones((3, 2)), np.zeros(3))
    image = ImageEncoder(8, lambda x: x)
    with pytest.raises(ValueError, match="at least 2 labels, got 1"):
        LabelEncoder(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"weight \(F, D\)"):
        VectorEncoder(np.zeros(2), np.ones(3), np.ones((3, 2)), np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(B, 2\)"):
        vector(np.zeros((4, 3)), (1, 4, 4))
    with pytest.raises(ValueError, match="finite, got nan"):
        vector(np.full((4, 2), np.nan), (1, 4, 4))
    with pytest.raises(ValueError, match=r"0 \.\.\. 7, got 8"):
        image(np.full((1, 1, 4, 4), 8), (1, 4, 4))
    for size in ((3, 3), (2, 4), (8, 8)):
        with pytest.raises(ValueError, match="size 4x4 of the images divided by a whole"):
            image(np.zeros((1, 1, *size)), (1, 4, 4))
    with pytest.raises(ValueError, match="only moves numbers"):
        LiftedContext(Flip(), Chain((Squeeze(), ActNorm(np.ones((4, 1, 1)), np.zeros((4, 1, 1))))))


def test_smaller_contexts_are_repeated():
    image = ImageEncoder(4, lambda x: x)
    context = np.arange(4.0).reshape(1, 1, 2, 2)
    want = np.kron(context[0, 0], np.ones((2, 2))) / 4 - 0.5
    np.testing.assert_array_equal(image(context, (3, 4, 4))[0, 0], want)


def test_initialization_standardizes_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 3)) * [1.0, 5.0, 0.0] + [0.0, -3.0, 0.1]
    encoder = VectorEncoder(np.zeros(3), np.ones(3), np.eye(3), np.zeros(3))
    _, features = encoder.initialize(vectors, (1, 2, 2))
    np.testing.assert_allclose(features.mean(axis=(0, 2, 3)), 0.0, atol=1e-12)
    np.testing.assert_allclose(features.std(axis=(0, 2, 3)), [1.0, 1.0, 0.0], atol=1e-12)
