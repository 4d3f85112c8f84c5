"""The Python interface of a trained conditional model: labels, vectors, images."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

import flowpp
from conditional import saved
from flowpp.evaluation.importance import importance_log_probs
from tiny import TINY

SHAPE, LEVELS = (1, 8, 8), 17


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A trained model for each kind of context, opened from a file."""
    folder, found = tmp_path_factory.mktemp("models"), {}

    def opened(kind):
        if kind not in found:
            found[kind] = flowpp.load(
                saved(folder / f"{kind}.safetensors", TINY, SHAPE, LEVELS, kind)
            )
        return found[kind]

    return opened


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, LEVELS, (70, *SHAPE), dtype=np.uint8)


def contexts(kind: str, count: int) -> np.ndarray:
    draw = np.random.default_rng(1)
    if kind == "labels":
        return draw.integers(0, 3, count)
    if kind == "vectors":
        return draw.normal(0, 1, (count, 2)).astype(np.float32)
    if kind == "low-resolution":
        return draw.integers(0, LEVELS, (count, 1, 4, 4), dtype=np.uint8)
    visible = draw.integers(0, 2, (count, 1, 8, 8), dtype=np.uint8)
    values = draw.integers(0, LEVELS, (count, 1, 8, 8), dtype=np.uint8)
    return np.concatenate([values * visible, visible * (LEVELS - 1)], 1)


KINDS = ["labels", "vectors", "low-resolution", "mask"]


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_those_of_the_evaluation(load, images, kind):
    model, given = load(kind), contexts(kind, 70)
    nats = model.log_prob(images, given, seed=3, samples=2)
    expected = importance_log_probs(model.model, images, 2, seed=3, contexts=given)[2]
    np.testing.assert_allclose(nats, expected, rtol=1e-6)
    swapped = model.log_prob(images, given[::-1].copy(), seed=3, samples=2)
    assert (nats != swapped).any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_context_stands_for_all_images(load, images, kind):
    model, one = load(kind), contexts(kind, 1)
    each = model.bits_per_dim(images, one.repeat(70, axis=0))
    alone = one[0] if kind != "labels" else int(one[0])
    assert np.array_equal(model.bits_per_dim(images, alone), each)


@pytest.mark.parametrize("kind", KINDS)
def test_decode_inverts_encode_with_the_same_context(load, images, kind):
    # In float32, rounding moves single values, such as 3 + 1e-8, across an integer.
    model, given = copy.deepcopy(load(kind)).double(), contexts(kind, 70)
    z = model.encode(images, given)
    assert np.array_equal(model.decode(z, given), images)
    assert not np.array_equal(model.decode(z, given[::-1].copy()), images)
    back, distance = model.round_trip(images, given)
    assert np.array_equal(back, images) and distance.max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_samples_depend_on_their_own_context(load, kind):
    """Each image is that of its context, whatever the others and the batch are."""
    model, given = load(kind), contexts(kind, 5)
    drawn = model.sample(5, given, seed=1)
    assert drawn.shape == (5, *SHAPE)
    assert np.array_equal(drawn, model.sample(5, given, seed=1, batch_size=2))
    changed = given.copy()
    changed[3] = contexts(kind, 9)[8] if kind != "labels" else (given[3] + 1) % 3
    other = model.sample(5, changed, seed=1)
    same = [bool((a == b).all()) for a, b in zip(drawn, other, strict=True)]
    assert same == [True, True, True, False, True]


def test_labels_by_name_by_index_and_as_tensors(load, images):
    model = load("labels")
    assert model.context_spec.names == ("bird", "cat", "dog")
    few = images[:3]
    by_name = model.log_prob(few, ["dog", "bird", "none"])
    for same in ([2, 0, 3], np.array([2, 0, 3], np.uint8), torch.tensor([2, 0, 3]),
                 np.array(["dog", "bird", "none"])):  # fmt: skip
        assert np.array_equal(model.log_prob(few, same), by_name)
    assert np.array_equal(model.log_prob(few, "cat"), model.log_prob(few, [1, 1, 1]))
    assert np.array_equal(model.sample(2, "cat"), model.sample(2, context=[1, "cat"][:1] * 2))
    tensor = model.log_prob(torch.from_numpy(few), "cat")
    assert isinstance(tensor, torch.Tensor) and tensor.requires_grad


@pytest.mark.parametrize("kind", ["vectors", "low-resolution"])
def test_gradients_with_respect_to_the_context(load, images, kind):
    model = load(kind)
    x = torch.from_numpy(images[:2])
    given = torch.from_numpy(contexts(kind, 2).clip(-3, 15).clip(1 if kind != "vectors" else -3))
    given = given.float().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x, given).sum(), given)
    assert gradient.shape == given.shape and (gradient != 0).any()
    step = torch.zeros_like(given)
    step.view(-1)[0] = 0.05
    with torch.no_grad():
        after, before = (model.log_prob(x, given + h).sum() for h in (step, -step))
    assert (after - before) / 0.1 == pytest.approx(float(gradient.view(-1)[0]), rel=0.03, abs=0.05)


def test_missing_and_wrong_contexts(load, images):
    model, few = load("labels"), images[:2]
    need = "images need a label each, one of: bird, cat, dog, or none"
    for call in (model.log_prob, model.encode, model.round_trip):
        with pytest.raises(ValueError, match=need):
            call(few)
    for call in (
        lambda: model.sample(2),
        lambda: model.decode(np.zeros((2, *model.latent_shape))),
    ):
        with pytest.raises(ValueError, match=need):
            call()
    wrong = {
        "cta": "one of: bird, cat, dog, or none, got 'cta'.*'cat'",
        4: r"must lie in 0 \.\.\. 3, got 4",
        -1: "got -1",
    }
    for label, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            model.log_prob(few, label)
    for labels in ([0, 1, 2], [[0, 1]]):
        with pytest.raises(ValueError, match=r"one per image, \(2,\), got shape"):
            model.log_prob(few, labels)
    for labels in (0.5, [True, False], None.__class__):
        with pytest.raises(TypeError, match="must be a name or an integer"):
            model.log_prob(few, labels)
    with pytest.raises(ValueError, match="must be None: this model was trained without"):
        load(None).log_prob(few, 0)


def test_wrong_vectors_and_images(load, images):
    few, vectors = images[:2], load("vectors")
    with pytest.raises(ValueError, match=r"need a vector of 2 numbers each \(age, height\)"):
        vectors.log_prob(few)
    with pytest.raises(ValueError, match=r"\(2,\) for all images, or \(2, 2\) for one per image"):
        vectors.log_prob(few, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite numbers, got NaN"):
        vectors.log_prob(few, [np.nan, 1.0])
    with pytest.raises(TypeError, match="got the text 'none'"):
        vectors.log_prob(few, "none")
    small = load("low-resolution")
    with pytest.raises(ValueError, match=r"values of contexts must lie in 0 \.\.\. 16, got 17"):
        small.log_prob(few, np.full((2, 1, 4, 4), 17))
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4\) for all"):
        small.log_prob(few, few)
    with pytest.raises(ValueError, match=r"fractions in \[0, 1\]: multiply them by 16"):
        small.log_prob(few, np.full((2, 1, 4, 4), 7 / 16))
    with pytest.raises(ValueError, match="must be 0 where hidden and 16 where visible, got 1"):
        load("mask").log_prob(few, np.ones((2, 2, 8, 8)))
    whole = np.concatenate([images[:2], np.zeros_like(images[:2])], 1)
    whole[:, 0, 0, :2], whole[:, 1, 1:] = 3, 16
    with pytest.raises(ValueError, match="hidden pixels of contexts must be 0, got others in"):
        load("mask").log_prob(few, whole)


def test_none_needs_label_dropout(tmp_path, images):
    training = dataclasses.replace(TINY.training, label_dropout=0.0)
    config = dataclasses.replace(TINY, training=training)
    model = flowpp.load(saved(tmp_path / "m.safetensors", config, SHAPE, LEVELS, "labels"))
    model.log_prob(images[:1], "cat")
    with pytest.raises(ValueError, match="'none' needs a model trained with .*label_dropout"):
        model.log_prob(images[:1], "none")


def test_empty_batches(load):
    model = load("labels")
    assert model.log_prob(np.zeros((0, *SHAPE), np.uint8), "cat").shape == (0,)
    assert model.decode(np.zeros((0, *model.latent_shape)), []).shape == (0, *SHAPE)
