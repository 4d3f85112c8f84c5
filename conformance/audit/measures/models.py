"""Effect of arithmetic on real images: bits per dimension and round trips of a trained model.

The reference value is flowpp's model in float64. Its mixtures are then replaced by another
implementation's, or its dtype is changed, with the same images and noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.audit.measures.clamp import SIZES
from conformance.audit.measures.round_trip import summary
from conformance.audit.subjects.specimens import SPECIMENS, clamped_at
from conformance.audit.subjects.subject import Subject

if TYPE_CHECKING:
    from conformance.audit.trained_model import Model

STATES = ("trained", "untrained")
ROUND_TRIP_SPECIMENS = ("ClampedLogit", "ClippedInverse", "GuessedBracket")


def study(model: Model, judged: list[Subject], *, cuda: bool) -> dict[str, Any]:
    """Run the whole study on the trained model and on the same model at initialization."""
    truths = {state: model.bits_per_dim("float64", trained=state == "trained") for state in STATES}
    found: dict[str, Any] = {
        "model": model.name,
        "images": len(model.images),
        "dims": model.dims,
        "bits_per_dim": {state: float(true.mean()) for state, true in truths.items()},
        "dtypes": _dtypes(model, truths["trained"], cuda=cuda),
        "clamp": {state: _clamps(model, truths[state], state) for state in STATES},
        "mixtures": {str(subject): _cost(model, subject, truths["trained"]) for subject in judged},
        "specimens": {
            kind.__name__: _cost(
                model, Subject(kind.__name__, kind, "float32", "specimen"), truths["trained"]
            )
            for kind in SPECIMENS
        },
        "round_trips": {},
    }
    specimens = [
        Subject(kind.__name__, kind, "float32", "specimen")
        for kind in SPECIMENS
        if kind.__name__ in ROUND_TRIP_SPECIMENS
    ]
    for subject in (*judged, *specimens):
        found["round_trips"][str(subject)] = {
            state: _round_trip(model, subject, state) for state in STATES
        }
    return found


def _round_trip(model: Model, subject: Subject, state: str) -> dict[str, Any]:
    build = None if subject.native else subject.build
    try:
        return summary(model.trace(subject.dtype, build, trained=state == "trained"))
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def _dtypes(model: Model, true: np.ndarray, *, cuda: bool) -> list[dict[str, Any]]:
    rows = []
    for dtype, tf32 in (
        ("float32", False), ("bfloat16", False), ("float16", False),
        *((("float32", True),) if cuda else ()),
    ):  # fmt: skip
        row: dict[str, Any] = {"dtype": f"{dtype} with TF32" if tf32 else dtype}
        try:
            row |= difference(model.bits_per_dim(dtype, tf32=tf32), true)
        except Exception as error:  # an operation may be missing for this dtype or device
            row["cannot"] = f"{type(error).__name__}: {error}"
        rows.append(row)
    if not cuda:
        rows.append({"dtype": "float32 with TF32", "cannot": "no CUDA device"})
    return rows


def _clamps(model: Model, true: np.ndarray, state: str) -> dict[str, Any]:
    trained = state == "trained"
    outputs = model.mixture_outputs(trained=trained)
    found: dict[str, Any] = {"largest_y": float(outputs.max())}
    for dtype in ("float32", "float64"):
        found[dtype] = []
        for size in SIZES:
            subject = Subject("clamped", clamped_at(size), dtype, "specimen")
            got = model.bits_per_dim(dtype, subject.build, trained=trained)
            limit = np.log((1 - size) / size)
            touched = 100 * float(np.mean(outputs > limit))
            found[dtype].append({"eps": size, "touched_percent": touched} | difference(got, true))
    return found


def _cost(model: Model, subject: Subject, true: np.ndarray) -> dict[str, Any]:
    build = None if subject.native else subject.build
    try:
        return difference(model.bits_per_dim(subject.dtype, build), true)
    except Exception as error:
        return {"cannot": f"{type(error).__name__}: {error}"}


def difference(got: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return computed minus exact bits per dimension, over the images with finite values.

    A negative difference reports the model as better than it is.
    """
    finite = np.isfinite(got)
    differences = (got - true)[finite]
    nan = float("nan")
    return {
        "mean_difference": float(differences.mean()) if differences.size else nan,
        "largest_difference": float(np.abs(differences).max()) if differences.size else nan,
        "non_finite_percent": 100 * float(np.mean(~finite)),
    }
