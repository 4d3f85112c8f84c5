"""Errors of precision: an operation in float32, and a root finder that ends early."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.judging.diagnosis.log_dets import differs, explains
from conformance.laws.trial import Trial
from conformance.numerics.specs import map_arrays
from reference.bijectors import MixtureLogistic

EPS32 = float(np.finfo(np.float32).eps)
HALF_WIDTHS = tuple(map(float, (1, 2, 5, 10, 16, 20, 30, 32, 50, 64, 100, 200, 500, 1e3, 1e4)))
MARGINS = (0.0, 1e-6, 1e-3, 0.1, 1.0)
MAX_STEPS = 45


FORMATS = {"float16 or TF32": 11, "bfloat16": 8}
"""Narrower formats, with their significant bits."""


def in_narrow_format(trial: Trial, direction: str) -> str:
    """Recognize input, output or parameters rounded to float16, TF32 or bfloat16."""
    at = trial.x if direction == "forward" else trial.y
    got = np.asarray(getattr(trial, f"got_{direction}")[0], np.float64)
    want = getattr(trial, f"want_{direction}")[0]
    if got.shape != want.shape or not differs(trial, got, want):
        return ""
    for name, bits in FORMATS.items():
        rough, spec = _to_bits(at, bits), _of_bits(trial.spec, bits)
        with np.errstate(all="ignore"):
            results = {
                "the input is": getattr(trial.spec, direction)(rough, trial.context)[0],
                "the parameters are": getattr(spec, direction)(at, trial.context)[0],
                "input and parameters are": getattr(spec, direction)(rough, trial.context)[0],
                "the result is": _to_bits(want, bits),
            }
        for what, would_be in results.items():
            if explains(got, would_be, want):
                return f"{what} rounded to {bits} bits, as by {name}: errors of 2^-{bits}"
    return ""


def _of_bits(spec: Any, bits: int) -> Any:
    return map_arrays(spec, lambda path, array: _to_bits(array, bits))


def _to_bits(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to a number of significant bits; arrays of integers are unchanged."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.round(mantissa * 2.0**bits), exponent - bits)


def in_float32(trial: Trial, direction: str) -> str:
    """Recognize float32: the errors everywhere are those of the reference run on float32."""
    at = trial.x if direction == "forward" else trial.y
    got = np.asarray(getattr(trial, f"got_{direction}")[0], np.float64)
    want = getattr(trial, f"want_{direction}")[0]
    if trial.dtype != np.float64 or got.size < 3 or not np.isfinite(got).all():
        return ""
    error = np.abs(got - want)
    if (got == got.astype(np.float32)).all() and (want != want.astype(np.float32)).mean() > 0.5:
        small = error <= 64 * EPS32 * np.maximum(np.abs(want), np.abs(at).max())
        return (
            "results are rounded to float32: some operation is in float32" if small.all() else ""
        )
    # The effect of rounding input and parameters, each alone, to float32.
    spec = map_arrays(trial.spec, lambda path, a: np.float64(np.float32(a)))
    with np.errstate(all="ignore"):
        runs = [
            getattr(trial.spec, direction)(np.float64(np.float32(at)), trial.context)[0],
            getattr(spec, direction)(at, trial.context)[0],
        ]
    effect = sum(np.abs(run - want) for run in runs)
    bound = 32 * (effect + EPS32 * np.maximum(np.abs(want), 1.0))
    typical = EPS32 * np.maximum(np.abs(want), 1e-3)
    everywhere = (error > typical / 256).mean() > 0.5
    if (error <= bound).all() and everywhere and np.median(error) > np.median(typical) / 64:
        return (
            f"errors of about {np.median(error):.1g} everywhere, those of float32: some operation "
            "is in float32"
        )
    return ""


def bisection(trial: Trial, direction: str) -> str:
    """Recognize an inverse that is the middle of an interval halved a number of times."""
    got = np.asarray(trial.got_inverse[0], np.float64)
    want = trial.want_inverse[0]
    if direction != "inverse" or not differs(trial, got, want):
        return ""
    if differs(trial, np.asarray(trial.got_forward[0], np.float64), trial.want_forward[0]):
        return ""
    error = np.abs(got - want)
    wrong = error > 500 * trial.eps * np.maximum(1.0, np.abs(want))
    if wrong.mean() < 0.3 or not np.isfinite(got).all():
        return ""
    own = _interval(trial)
    intervals = [
        (f"[{-a:g}, {a:g}] ({{}} of an interval twice as wide)", -a + 0 * got, a + 0 * got)
        for a in HALF_WIDTHS
    ]
    if own is not None:
        intervals += [
            ("the interval between the components' roots", own[0] - margin, own[1] + margin)
            for margin in MARGINS
        ]
    for text, low, high in intervals:
        steps = _steps(trial, got[wrong], error[wrong], low[wrong], high[wrong])
        if steps:
            place = text.format(steps + 1)
            return f"the root finder ends after {steps} steps of bisection of {place}"
    if (got == got.astype(np.float32)).all():
        return ""  # rounded
    worst = float(error.max())
    if own is not None and np.median(error[wrong]) > worst / 100:
        about = round(float(np.log2(np.median(own[1] - own[0]) / np.median(error[wrong]))))
        return (
            f"possibly too few steps of the root finder: errors up to {worst:.1g}, as after about "
            f"{max(about - 1, 1)} steps of bisection"
        )
    return ""


def _interval(trial: Trial) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the interval between the roots of a mixture's single components."""
    spec = trial.spec
    if not isinstance(spec, MixtureLogistic):
        return None
    roots = spec.means + trial.y[..., None] * np.exp(spec.log_scales)
    return roots.min(-1), roots.max(-1)


def _steps(
    trial: Trial, got: np.ndarray, error: np.ndarray, low: np.ndarray, high: np.ndarray
) -> int:
    """Return the number of halvings of which all results are middles or ends; 0 for none."""
    width = high - low
    if not ((width > 0) & (got >= low) & (got <= high)).all():
        return 0
    for steps in range(1, MAX_STEPS):
        cell = width / 2.0**steps
        if (cell < 4096 * trial.eps * np.maximum(1.0, np.abs(got))).any():
            return 0
        place = (got - low) / cell
        # A middle of a cell, or an end: within a thousandth of it.
        off = np.abs(2.0 * place - np.round(2.0 * place))
        if (off < 1e-3).all() and (error <= 1.01 * cell).all():
            middles = np.abs(np.round(2.0 * place) % 2 - 1) < 0.5
            return steps if middles.mean() > 0.5 else max(steps - 1, 1)
    return 0
