"""Comparison of a recorded fingerprint of a flowpp model with its reference twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapters.flowpp import to_reference
from flowpp.evaluation.comparison import compare, table
from flowpp.evaluation.fingerprint import Fingerprint, named_layers
from flowpp.runs.open_model import open_model


class Reference:
    """NumPy twin of a trained model, in float64."""

    name = "reference, NumPy float64"

    def __init__(self, model: Any) -> None:
        self._model = to_reference(model)
        self._layers = named_layers(model)

    def forward(
        self, layer: str, x: np.ndarray, context: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        twin = to_reference(self._layers[layer])
        wide = None if context is None else context.astype(np.float64)
        return twin.forward(x.astype(np.float64), wide)

    def bits_per_dim(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        total = self._model.elbo(images.astype(int), noise.astype(np.float64)).total
        return -total / (images[0].size * np.log(2))


def newest(run: Path) -> Path:
    """Return the newest fingerprint of a run, or of those beside a checkpoint file.

    Raises:
        FileNotFoundError: The run has no fingerprint.
    """
    folder = (run if run.is_dir() else run.parent) / "fingerprints"
    files = sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_mtime)
    if not files:
        raise FileNotFoundError(
            f"{run} has no fingerprint; record one with python -m flowpp.evaluate {run} "
            "--fingerprint, on the device to be checked"
        )
    return files[-1]


def judge(run: Path, recorded: Path) -> tuple[dict[str, Any], str]:
    """Return the report as values for JSON, and as a table.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or the run no longer has the recorded weights.
    """
    found = Fingerprint.load(recorded)
    opened = open_model(run, weights_sha256=str(found.facts.get("weights_sha256")))
    report = compare(found, Reference(opened.model))
    return report, table(report)
