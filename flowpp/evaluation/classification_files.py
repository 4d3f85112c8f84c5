"""Files of `python -m flowpp.classify`: a row for each image, a receipt and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.evaluation.classification import (
    Accuracy,
    Calibration,
    calibration_error,
    confusion,
    log_posterior,
)
from flowpp.evaluation.figures import new_figure, save_figure
from flowpp.runtime.files import atomic_write

COUNTED = 20
"""Largest number of classes whose numbers of images are written into the picture."""
UNKNOWN = -1
"""Label of an image whose class is not known."""


@dataclass(frozen=True, eq=False)
class Classified:
    """Images with their posteriors.

    Args:
        names: name of each image.
        classes: names of the classes.
        log_probs: log p(x|y) in nats, `(N, classes)`.
        truth: true class of each image, -1 if unknown.
        prior: P(y), `(classes,)`.
        calibration: temperatures, and what they were fitted on.
    """

    names: Sequence[str]
    classes: Sequence[str]
    log_probs: np.ndarray
    truth: np.ndarray
    prior: np.ndarray
    calibration: Calibration

    @property
    def finite(self) -> np.ndarray:
        """Which images have finite numbers for all classes."""
        return np.isfinite(self.log_probs).all(axis=1)

    @property
    def posterior(self) -> np.ndarray:
        """P(y|x), `(N, classes)`; NaN for images without finite numbers."""
        scores = np.where(self.finite[:, None], self.log_probs, np.nan)
        return np.exp(log_posterior(scores, self.prior, self.calibration.temperatures))

    @property
    def judged(self) -> np.ndarray:
        """Which images have finite numbers and a known class."""
        return self.finite & (self.truth != UNKNOWN)

    @property
    def accuracy(self) -> Accuracy | None:
        """Accuracy on the images of known class; None without any."""
        if not self.judged.any():
            return None
        predicted = self.posterior[self.judged].argmax(1)
        return Accuracy.of(predicted, self.truth[self.judged], len(self.classes))

    @property
    def confusion(self) -> np.ndarray:
        """Number of images by true class (row) and prediction (column)."""
        predicted = self.posterior[self.judged].argmax(1)
        return confusion(predicted, self.truth[self.judged], len(self.classes))

    def calibration_errors(self) -> tuple[float, float] | None:
        """Return the expected calibration error with T = 1 and with the temperatures."""
        judged = self.judged
        if not judged.any():
            return None
        raw = np.exp(log_posterior(self.log_probs[judged], self.prior))
        truth = self.truth[judged]
        return calibration_error(raw, truth), calibration_error(self.posterior[judged], truth)


def write_csv(path: Path, classified: Classified, left_out: Mapping[str, str]) -> None:
    """Write a row for each image, then one for each file left out.

    The columns are `image`, `prediction`, `truth`, `P(CLASS)` for each class, and `note`.
    """
    classes, finite = classified.classes, classified.finite
    columns = ["image", "prediction", "truth", *(f"P({name})" for name in classes), "note"]
    empty = [""] * len(classes)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        rows = zip(classified.names, classified.truth, classified.posterior, finite, strict=True)
        for name, truth, posterior, is_finite in rows:
            known = "" if truth == UNKNOWN else classes[truth]
            if is_finite:
                predicted = classes[int(posterior.argmax())]
                writer.writerow((name, predicted, known, *(f"{p:.6f}" for p in posterior), ""))
            else:
                writer.writerow((name, "", known, *empty, "log P(x|y) is not finite"))
        writer.writerows((name, "", "", *empty, why) for name, why in left_out.items())


def results(classified: Classified) -> dict[str, Any]:
    """Return accuracy, confusion matrix and calibration as plain values."""
    accuracy, errors = classified.accuracy, classified.calibration_errors()
    calibration = classified.calibration
    return {
        "classes": list(classified.classes),
        "images": len(classified.names),
        "images_of_known_class": int((classified.truth != UNKNOWN).sum()),
        "not_finite": int((~classified.finite).sum()),
        "prior": dict(zip(classified.classes, classified.prior.tolist(), strict=True)),
        "accuracy": None if accuracy is None else asdict(accuracy),
        "confusion": None if accuracy is None else classified.confusion.tolist(),
        "calibration": {
            "fitted_on": calibration.fitted_on,
            "images": calibration.count,
            "temperatures": sorted(set(calibration.temperatures.tolist())),
            "expected_calibration_error": None
            if errors is None
            else {"before": errors[0], "after": errors[1]},
        },
    }


def draw_confusion(path: Path, title: str, classified: Classified) -> None:
    """Draw the confusion matrix; colours are shares of the true class."""
    matrix, classes = classified.confusion, classified.classes
    total = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(total, 1)
    side = min(max(0.42 * len(classes), 3.2), 12)
    figure = new_figure(side + 1.6, side + 0.9)
    figure.suptitle(title, fontsize=9, wrap=True, parse_math=False)
    axes: Any = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("prediction", fontsize=9)
    axes.set_ylabel("truth, with the number of images", fontsize=9)
    ticks = range(len(classes))
    if len(classes) <= COUNTED:
        counts = total[:, 0]
        axes.set_xticks(ticks, classes, rotation=90, fontsize=8, parse_math=False)
        named = [f"{name}  ({n})" for name, n in zip(classes, counts, strict=True)]
        axes.set_yticks(ticks, named, fontsize=8, parse_math=False)
        for row, column in np.argwhere(matrix):
            dark = shares[row, column] > 0.5
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
    figure.colorbar(shown, ax=axes, shrink=0.7).set_label("share of the true class", fontsize=8)
    save_figure(figure, path)
