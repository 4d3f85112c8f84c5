"""The released code's inverse, including its loss of precision in the CDF.

The released code inverts a coupling through u = sigmoid(v), rounded to the dtype, clipped in the
ImageNet family, and solved by bisection in a bracket of a multiple of the sum of scales. Where u
saturates, its result is not the inverse. To make results comparable, this module applies the same
u. The rounding error of u differs between implementations, so the sensitivity of the result to one
ulp of u is returned as slack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from reference.bijectors import Coupling, MixtureLogistic

ULPS = 4.0


@dataclass(frozen=True)
class Clip:
    """Clip and bracket of a family of released models.

    Args:
        margin: Clip of u to [margin, 1 - margin].
        scales: Bracket of the bisection: the means +- this multiple of the sum of scales.
    """

    margin: float
    scales: float


def released_inverse(
    tested: Any, z: np.ndarray, clip: Clip
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x, log_det, slack of x and slack of log_det for latents z `(B, C, H, W)`."""
    x, log_det = _invert(tested, z, clip, 0)
    slack_x, slack_log_det = np.zeros_like(x), np.zeros_like(log_det)
    for direction in (-1, 1):
        shifted_x, shifted_log_det = _invert(tested, z, clip, direction)
        slack_x = np.maximum(slack_x, ULPS * np.abs(shifted_x - x))
        slack_log_det = np.maximum(slack_log_det, ULPS * np.abs(shifted_log_det - log_det))
    # Later couplings spread the error of one element over the whole example.
    slack_x = np.broadcast_to(slack_x.max(axis=(1, 2, 3), keepdims=True), x.shape)
    return x, log_det, slack_x, slack_log_det


def _invert(
    tested: Any, y: np.ndarray, clip: Clip, direction: int
) -> tuple[np.ndarray, np.ndarray]:
    total = np.zeros(len(y), y.dtype)
    for spec, element in reversed(list(zip(tested.spec.flow.bijectors, tested.flow, strict=True))):
        if isinstance(spec, Coupling) and spec.family.parameters_per_scalar > 2:
            y, log_det = _invert_coupling(tested, spec, element, y, clip, direction)
        else:
            y, log_det = element.inverse(y)
        total = total + log_det
    return y, total


def _invert_coupling(
    tested: Any, spec: Coupling, element: Any, y: np.ndarray, clip: Clip, direction: int
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.split(y, 2, axis=1)
    raw = tested.conditioner(element)(a, None)
    batch, _, height, width = raw.shape
    per_scalar = spec.family.parameters_per_scalar
    split = raw.reshape(batch, a.shape[1], per_scalar, height, width)
    parameters = np.moveaxis(split, 2, -1)
    mixture, affine = spec.family(parameters).bijectors
    v, log_det_affine = tested.build(affine).inverse(b)
    x, y_at_x, log_det_mixture = _quantile(tested, mixture, v, clip, direction)
    # The released log-det combines log f at the computed x with the sigmoid's at v, which do not
    # cancel where x is not the quantile of sigmoid(v).
    correction = _sigmoid_log_det(v) - _sigmoid_log_det(y_at_x)
    log_det = log_det_affine + log_det_mixture + correction.sum(axis=(1, 2, 3))
    return np.concatenate([a, x], axis=1), log_det


def _quantile(
    tested: Any, mixture: MixtureLogistic, v: np.ndarray, clip: Clip, direction: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = expit(v)
    if direction:
        u = np.clip(np.nextafter(u, u.dtype.type(max(direction, 0))), 0, 1)
    u = np.clip(u, clip.margin, 1 - clip.margin).astype(v.dtype)
    # u is already rounded to the dtype; its logit is computed without further error.
    exact = u.astype(np.longdouble)
    inside = (exact > 0) & (exact < 1)
    target = np.where(inside, exact, 0.5)
    logit = (np.log(target) - np.log1p(-target)).astype(v.dtype)
    built = tested.build(mixture)
    x, _ = built.inverse(logit)
    span = clip.scales * np.exp(mixture.log_scales).sum(axis=-1)
    lower, upper = mixture.means.min(axis=-1) - span, mixture.means.max(axis=-1) + span
    x = np.where(inside, x, np.where(u > 0.5, upper, lower))
    x = np.clip(x, lower, upper).astype(v.dtype)
    y, log_det = built.forward(x)
    return x, y, -log_det


def _sigmoid_log_det(v: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, v) - np.logaddexp(0, -v)
