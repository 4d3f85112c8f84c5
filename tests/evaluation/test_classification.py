"""Bayes' rule with calibrated posteriors: `flowpp.evaluation.classification`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from conditional import conditional_model
from flowpp.evaluation.classification import (
    Accuracy,
    calibration_error,
    class_log_probs,
    confusion,
    cross_fitted,
    fitted_temperature,
    log_posterior,
)
from flowpp.evaluation.importance import importance_log_probs
from tiny import TINY


@pytest.fixture(scope="module")
def model():
    return conditional_model(TINY.model, (1, 8, 8), 17, "labels")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("samples", [1, 3])
def test_bounds_of_a_class_are_those_of_its_label(model, images, samples):
    """Also: the noise is the same for all classes, and batches make no difference."""
    found = class_log_probs(model, images, samples, seed=2, batch=4)
    assert found.shape == (5, 3) and found.dtype == np.float64
    for label in range(3):
        labels = np.full(5, label)
        expected = importance_log_probs(model, images, samples, seed=2, contexts=labels)[samples]
        np.testing.assert_allclose(found[:, label], expected, rtol=1e-6)
    large = class_log_probs(model, images, samples, seed=2, batch=1000)
    np.testing.assert_allclose(found, large, rtol=1e-6)


def test_progress_counts_all_rows(model, images):
    rows: list[int] = []
    class_log_probs(model, images, 2, batch=7, progress=rows.append)
    assert sum(rows) == 5 * 2 * 3


def test_a_model_without_labels_is_refused(images):
    with pytest.raises(ValueError, match="needs a model of labels .* got one of no contexts"):
        class_log_probs(conditional_model(TINY.model, (1, 8, 8), 17, None), images)
    with pytest.raises(ValueError, match="got one of vectors"):
        class_log_probs(conditional_model(TINY.model, (1, 8, 8), 17, "vectors"), images)


def test_posterior_is_bayes_rule():
    log_probs = np.log([[0.2, 0.1, 0.4], [1e-3, 3e-3, 0.0 + 1e-3]])
    prior = np.array([0.5, 0.5, 0.0])
    found = np.exp(log_posterior(log_probs, prior))
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3, 0], [0.25, 0.75, 0]], rtol=1e-12)
    flat = np.exp(log_posterior(log_probs, np.full(3, 1 / 3), np.array([1.0, 2.0])))
    weights = np.sqrt([1.0, 3.0, 1.0])
    np.testing.assert_allclose(flat[1], weights / weights.sum(), rtol=1e-12)
    far = np.exp(log_posterior(np.array([[-3000.0, -3100.0]]), np.full(2, 0.5)))
    assert far[0, 0] == 1 and not np.isnan(far).any()


@pytest.mark.parametrize("true_temperature", [0.2, 1.0, 30.0])
def test_the_temperature_is_that_of_the_labels(true_temperature):
    """Labels drawn from the posterior at some T, which maximum likelihood finds again."""
    draw = np.random.default_rng(1)
    log_probs = draw.normal(0, 3 * true_temperature, (4000, 4))
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    posterior = np.exp(log_posterior(log_probs, prior, true_temperature))
    labels = (posterior.cumsum(1) > draw.random((4000, 1))).argmax(1)
    found = fitted_temperature(log_probs, prior, labels)
    assert found == pytest.approx(true_temperature, rel=0.12)

    def cost(log_t: float) -> float:
        return -log_posterior(log_probs, prior, math.exp(log_t))[range(4000), labels].mean()

    best = optimize.minimize_scalar(cost, bracket=(-1, 1)).x
    assert math.log(found) == pytest.approx(best, abs=1e-3)
    before = calibration_error(np.exp(log_posterior(log_probs, prior)), labels)
    after = calibration_error(np.exp(log_posterior(log_probs, prior, found)), labels)
    assert after < 0.03 and (true_temperature == 1 or before > 3 * after)


def test_no_image_is_calibrated_by_its_own_label():
    draw = np.random.default_rng(2)
    log_probs, labels = draw.normal(0, 40, (60, 3)), draw.integers(0, 3, 60)
    prior = np.full(3, 1 / 3)
    found = cross_fitted(log_probs, prior, labels)
    assert set(found[::2]) == {fitted_temperature(log_probs[1::2], prior, labels[1::2])}
    assert set(found[1::2]) == {fitted_temperature(log_probs[::2], prior, labels[::2])}
    labels[0] = (labels[0] + 1) % 3
    assert cross_fitted(log_probs, prior, labels)[0] == found[0]
    with pytest.raises(ValueError, match="at least 20 images, got 15"):
        cross_fitted(log_probs[:30], prior, labels[:30])


@pytest.mark.parametrize("wrong", ["no prior", math.nan, math.inf, -math.inf])
def test_images_that_say_nothing_of_the_temperature_are_left_out(wrong):
    """A single one gives the same cost at every temperature, so that the first is taken."""
    draw = np.random.default_rng(3)
    log_probs, prior = draw.normal(0, 5, (60, 3)), np.array([0.5, 0.5, 0.0])
    labels = (log_probs[:, 1] + draw.normal(0, 5, 60) > log_probs[:, 0]).astype(int)
    expected = fitted_temperature(log_probs[5:], prior, labels[5:])
    assert 0.1 < expected < 1000
    if wrong == "no prior":
        labels[:5] = 2
    else:
        log_probs[:5, 1] = wrong
    assert fitted_temperature(log_probs, prior, labels) == expected
    with pytest.raises(ValueError, match="at least 20 images, got 19"):
        fitted_temperature(log_probs[:24], prior, labels[:24])


def test_calibration_error():
    posterior = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.1, 0.9]])
    labels = np.array([0, 1, 1, 1])
    # In the bin of 0.9: 2 of 3 right; in that of 0.6: 1 of 1.
    expected = (3 * abs(2 / 3 - 0.9) + 1 * abs(1 - 0.6)) / 4
    assert calibration_error(posterior, labels) == pytest.approx(expected)
    assert calibration_error(np.eye(2)[labels], labels) == 0


def test_accuracy_beside_chance():
    labels = np.array([0, 0, 0, 1, 2])
    accuracy = Accuracy.of(np.array([0, 0, 1, 1, 1]), labels, 4)
    assert accuracy == Accuracy(0.6, math.sqrt(0.24 / 5), 5, 0.25, 0.6)
    assert "60.0% +- 21.9% of 5 images, 95 % interval 23.1% ... 88.2%; chance" in str(accuracy)
    assert "chance 25.0%, the largest class alone 60.0%" in str(accuracy)
    z, certain = 1.959963984540054, Accuracy.of(labels, labels, 4)
    assert certain.interval == pytest.approx((5 / (5 + z**2), 1.0))  # Wilson's, for 5 of 5
    matrix = confusion(np.array([0, 0, 1, 1, 1]), labels, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_gradients_are_off_and_the_mode_is_evaluation(model, images):
    model.train()
    assert torch.is_grad_enabled()
    class_log_probs(model, images[:1])
    assert not model.training
