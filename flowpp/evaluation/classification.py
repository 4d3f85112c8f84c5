"""Classification by Bayes' rule with a model of images given their label.

    P(y|x) = pi_y p(x|y)^(1/T) / sum_k pi_k p(x|k)^(1/T)

The temperature T, fitted on images whose labels are known, calibrates the posteriors: a density of
many dimensions is surer of a class than it is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize, special, stats

from flowpp.config import checks
from flowpp.config.command_line import warn
from flowpp.config.settings import Precision
from flowpp.evaluation.batch_size import Batches
from flowpp.evaluation.bound import check_arguments, image_noise
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_tensors import image_tensor

BINS = 15
"""Intervals of confidence of the expected calibration error."""
HIGHEST_TEMPERATURE = 1e4
FEWEST = 20
"""Fewest images that a temperature is fitted on."""


@torch.no_grad()
def class_log_probs(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int = 1,
    *,
    seed: int = 0,
    batch: int = 128,
    progress: Callable[[int], None] = lambda count: None,
    precision: Precision = "float32",
) -> np.ndarray:
    """Compute bounds on log p(x|y) in nats for each image and class, float64 `(N, classes)`.

    The noise of an image's draw is the same for all classes and is that of `importance_bounds`:
    differences between classes then vary less than the bounds themselves.

    Args:
        model: model of labels, which is put into evaluation mode.
        images: uint8 or uint16 `(N, C, H, W)`.
        samples: number of importance samples per image and class.
        seed: seed of the noise.
        batch: number of rows, of an image, a draw and a class each, evaluated at once.
        progress: called after each batch with its number of rows.
        precision: see `evaluated_in`.

    Raises:
        TypeError, ValueError: as `check_arguments`; a model without labels; fewer than 1 sample.
    """
    check_arguments(model, images)
    checks.at_least("samples", samples, 1)
    classes = class_count(model)
    model.eval()
    weights = np.empty((len(images), samples, classes))
    pairs = [(image, draw) for image in range(len(images)) for draw in range(samples)]
    batches, step = Batches(batch, warn), max(1, batch // classes)

    def compute(rows: list[tuple[int, int, int]]) -> np.ndarray:
        return _bounds(model, images, rows, seed)

    for begin in range(0, len(pairs), step):
        rows = [(*pair, y) for pair in pairs[begin : begin + step] for y in range(classes)]
        with evaluated_in(model, precision):
            bounds = batches.compute(compute, rows)
        weights.reshape(-1)[begin * classes : begin * classes + len(rows)] = bounds
        progress(len(rows))
    return special.logsumexp(weights, axis=1) - math.log(samples)


def class_count(model: FlowPlusPlus) -> int:
    """Return the number of classes of a model of labels.

    Raises:
        ValueError: a model of other contexts or of none.
    """
    spec = model.context_spec
    if spec is None or spec.kind != "labels":
        kind = "no contexts" if spec is None else spec.kind
        raise ValueError(
            "classification needs a model of labels (--data.labels in training), "
            f"got one of {kind}"
        )
    return len(spec.names)


def _bounds(
    model: FlowPlusPlus, images: np.ndarray, rows: list[tuple[int, int, int]], seed: int
) -> np.ndarray:
    """Return the one-sample bounds of rows (image, draw, class) in nats, float64."""
    like = next(model.parameters())
    pairs = list(dict.fromkeys((image, draw) for image, draw, _ in rows))  # each once, in order
    place = {pair: row for row, pair in enumerate(pairs)}
    repeated = torch.tensor([place[image, draw] for image, draw, _ in rows])
    noise = image_noise(model, images.shape[1:], seed, pairs)[repeated]
    x = image_tensor(images[[image for image, _, _ in rows]])
    labels = torch.tensor([y for _, _, y in rows])
    device = like.device
    elbo = model.elbo(x.to(device), noise.to(device), labels.to(device))
    return elbo.total.cpu().double().numpy()


def log_posterior(
    log_probs: np.ndarray, prior: np.ndarray, temperature: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return log P(y|x), `(N, classes)`.

    Args:
        log_probs: log p(x|y), `(N, classes)`.
        prior: P(y), `(classes,)`; 0 excludes a class.
        temperature: T, one for all images or `(N,)`.
    """
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior)
    scores = log_probs / np.reshape(temperature, (-1, 1)) + log_prior
    return special.log_softmax(scores, axis=1)


def fitted_temperature(log_probs: np.ndarray, prior: np.ndarray, labels: np.ndarray) -> float:
    """Return the T in 1/10^4 ... 10^4 with the largest mean log P(label|x).

    Args:
        log_probs: log p(x|y), `(N, classes)`.
        prior: P(y), `(classes,)`.
        labels: true classes, integers `(N,)`.

    Raises:
        ValueError: fewer than 20 images that are `informative`; the others are left out.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
    """
    used = informative(log_probs, prior, labels)
    log_probs, labels = log_probs[used], labels[used]
    if len(labels) < FEWEST:
        raise ValueError(f"a temperature must be fitted on at least {FEWEST} images, "
                         f"got {len(labels)}")  # fmt: skip

    def cost(log_temperature: float) -> float:
        return -_mean_of_truth(log_probs, prior, labels, math.exp(log_temperature))

    # The cost is convex in 1/T, so that a coarse grid finds the valley that holds the minimum.
    top = math.log(HIGHEST_TEMPERATURE)
    grid = np.linspace(-top, top, 41)
    best = int(np.argmin([cost(value) for value in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(cost, bounds=(low, high), method="bounded")
    return math.exp(found.x)


def informative(log_probs: np.ndarray, prior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which images a temperature can be fitted on, `(N,)`.

    An image whose log p(x|y) is not finite, or whose class has no prior probability, gives the
    same likelihood at every temperature: a single one would hide the others.

    Args:
        log_probs: log p(x|y), `(N, classes)`.
        prior: P(y), `(classes,)`.
        labels: true classes, integers `(N,)`; negative ones are unknown.
    """
    return np.isfinite(log_probs).all(axis=1) & (labels >= 0) & (prior[labels] > 0.0)


def _mean_of_truth(
    log_probs: np.ndarray, prior: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
    """Return the mean log-posterior of the true classes."""
    posterior = log_posterior(log_probs, prior, temperature)
    return float(posterior[np.arange(len(labels)), labels].mean())


def cross_fitted(log_probs: np.ndarray, prior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a temperature for each image, `(N,)`, fitted on the other half of the images.

    Images of even and of odd index are the halves: no image's own label is used for it.

    Raises:
        ValueError: fewer than 20 images in a half, not counting those that `fitted_temperature`
            leaves out.
    """
    temperatures = np.empty(len(labels))
    halves = np.arange(len(labels)) % 2
    for half in (0, 1):
        other = halves != half
        temperatures[~other] = fitted_temperature(log_probs[other], prior, labels[other])
    return temperatures


def calibration_error(posterior: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error of the predictions, in 0 ... 1.

    It is the mean over images of |accuracy - mean confidence| of the image's bin, with 15 bins of
    equal width by the largest posterior.

    Args:
        posterior: P(y|x), `(N, classes)`.
        labels: true classes, integers `(N,)`.
    """
    confidence, right = posterior.max(1), posterior.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    differences = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(differences).sum() / len(labels))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Temperatures of images, and the origin of the images that they were fitted on.

    Args:
        temperatures: T of each image, `(N,)`.
        fitted_on: description of those images, or why there are none.
        count: their number; 0 if T is 1 because there are none.
    """

    temperatures: np.ndarray
    fitted_on: str
    count: int


@dataclass(frozen=True)
class Accuracy:
    """Share of images whose predicted class is the true one.

    Args:
        mean: the share.
        standard_error: sqrt(mean (1 - mean) / count).
        count: number of images of known class.
        chance: 1 / number of classes, the expected share of guesses.
        largest_class: share of the most frequent class, reached by predicting it always.
    """

    mean: float
    standard_error: float
    count: int
    chance: float
    largest_class: float

    @classmethod
    def of(cls, predictions: np.ndarray, labels: np.ndarray, classes: int) -> Accuracy:
        """Return the accuracy of predictions, integers `(N,)`."""
        count = len(labels)
        mean = float(np.mean(predictions == labels))
        largest = float(np.bincount(labels, minlength=classes).max() / count)
        return cls(mean, math.sqrt(mean * (1 - mean) / count), count, 1 / classes, largest)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval, which has a width at accuracies of 0 and 1 too."""
        found = stats.binomtest(round(self.mean * self.count), self.count).proportion_ci(
            0.95, method="wilson"
        )
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """Format the accuracy beside chance."""
        low, high = self.interval
        return (
            f"{self.mean:.1%} +- {self.standard_error:.1%} of {self.count} images, 95 % interval "
            f"{low:.1%} ... {high:.1%}; chance {self.chance:.1%}, the largest class alone "
            f"{self.largest_class:.1%}"
        )


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of images by true class (row) and predicted class (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix
