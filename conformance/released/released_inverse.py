"""The released code's inverse, with the losses it has on the way through the CDF.

The released code inverts a coupling through u = sigmoid(v): rounded to the dtype, clipped in the
ImageNet family, and then sought by bisection in a bracket of so many sums of scales. Where u has
saturated, what it returns is not the inverse. To compare all the same, this file puts v through
the same u, and only here; the rounding of u itself is an error that no two implementations share,
so the answer's sensitivity to one unit in the last place of u comes along as slack.
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
    """How a family treats u.

    Args:
        margin: u is clipped to [margin, 1 - margin].
        scales: bracket of the bisection, in sums of the components' scales beyond the means.
    """

    margin: float
    scales: float


def released_inverse(
    side: Any, z: np.ndarray, clip: Clip
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, log_det, slack of x, slack of log_det) for latents z `(B, C, H, W)`."""
    x, log_det = _invert(side, z, clip, 0)
    slack_x, slack_log_det = np.zeros_like(x), np.zeros_like(log_det)
    for direction in (-1, 1):
        moved_x, moved_log_det = _invert(side, z, clip, direction)
        slack_x = np.maximum(slack_x, ULPS * np.abs(moved_x - x))
        slack_log_det = np.maximum(slack_log_det, ULPS * np.abs(moved_log_det - log_det))
    # What one element's u loses, later couplings spread over the whole example.
    slack_x = np.broadcast_to(slack_x.max(axis=(1, 2, 3), keepdims=True), x.shape)
    return x, log_det, slack_x, slack_log_det


def _invert(side: Any, y: np.ndarray, clip: Clip, direction: int) -> tuple[np.ndarray, np.ndarray]:
    total = np.zeros(len(y), y.dtype)
    for spec, element in reversed(list(zip(side.model.flow.bijectors, side.flow, strict=True))):
        if isinstance(spec, Coupling) and spec.family.parameters_per_scalar > 2:
            y, log_det = _invert_coupling(side, spec, element, y, clip, direction)
        else:
            y, log_det = element.inverse(y)
        total = total + log_det
    return y, total


def _invert_coupling(
    side: Any, spec: Coupling, element: Any, y: np.ndarray, clip: Clip, direction: int
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.split(y, 2, axis=1)
    raw = side.conditioner(element)(a, None)
    batch, _, height, width = raw.shape
    per_scalar = spec.family.parameters_per_scalar
    split = raw.reshape(batch, a.shape[1], per_scalar, height, width)
    parameters = np.moveaxis(split, 2, -1)
    mixture, affine = spec.family(parameters).bijectors
    v, log_det_affine = side.build(affine).inverse(b)
    x, y_found, log_det_mixture = _quantile(side, mixture, v, clip, direction)
    # The released log-det is log f at the x found, and the sigmoid's at v: they do not cancel
    # where x is not the quantile of sigmoid(v).
    correction = _sigmoid_log_det(v) - _sigmoid_log_det(y_found)
    log_det = log_det_affine + log_det_mixture + correction.sum(axis=(1, 2, 3))
    return np.concatenate([a, x], axis=1), log_det


def _quantile(
    side: Any, mixture: MixtureLogistic, v: np.ndarray, clip: Clip, direction: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = expit(v)
    if direction:
        u = np.clip(np.nextafter(u, u.dtype.type(max(direction, 0))), 0, 1)
    u = np.clip(u, clip.margin, 1 - clip.margin).astype(v.dtype)
    # The dtype's own rounding is in u already; its logit is taken exactly.
    exact = u.astype(np.longdouble)
    inside = (exact > 0) & (exact < 1)
    target = np.where(inside, exact, 0.5)
    logit = (np.log(target) - np.log1p(-target)).astype(v.dtype)
    built = side.build(mixture)
    x, _ = built.inverse(logit)
    span = clip.scales * np.exp(mixture.log_scales).sum(axis=-1)
    lower, upper = mixture.means.min(axis=-1) - span, mixture.means.max(axis=-1) + span
    x = np.where(inside, x, np.where(u > 0.5, upper, lower))
    x = np.clip(x, lower, upper).astype(v.dtype)
    y, log_det = built.forward(x)
    return x, y, -log_det


def _sigmoid_log_det(v: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, v) - np.logaddexp(0, -v)
