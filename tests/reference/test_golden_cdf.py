"""The mixture against float64 results of the authors' code, where that is not saturated.

That code returns log F and log f; the reference's are log F = log sigmoid(y) and
log f = log dy/dx + log sigmoid'(y). The code's logit is computed from the rounded u = F, so one
unit of rounding in u is eps / (1 - u) in the logit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference.bijectors import MixtureLogistic
from reference.bijectors.mixture_logistic import logit_cdf
from reference.bijectors.sigmoid import log_sigmoid_slope, sigmoid
from reference.root_finding import EPS

FILE = Path(__file__).resolve().parents[1] / "data" / "golden" / "case5_cdf.npz"
POINTS = [
    f"{regime}_K{components}"
    for regime in ("typical", "near", "near_clamped", "wide", "wide_clamped")
    for components in (1, 4, 32)
]
QUANTILES = [
    f"inv_{regime}_K{components}"
    for regime in ("typical", "near_clamped")
    for components in (1, 4, 32)
]


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as file:
        yield file


def parameters(golden, group):
    names = ("logits", "means", "logscales")
    return [golden[f"{group}/{name}"].astype(np.float64) for name in names]


def check_points(golden, group, *mixture):
    y, log_derivative = logit_cdf(golden[f"{group}/x"].astype(np.float64), *mixture)

    def recorded(name):
        return golden[f"{group}/f64/{name}"]

    np.testing.assert_allclose(-np.logaddexp(0.0, -y), recorded("logcdf"), rtol=1e-13, atol=1e-15)
    log_density = log_derivative + log_sigmoid_slope(y)
    np.testing.assert_allclose(log_density, recorded("logpdf"), rtol=1e-13, atol=1e-13)

    cdf, their_y = recorded("cdf"), recorded("logit_exactdiv")
    plain = np.isfinite(their_y) & (cdf > np.finfo(np.float64).tiny) & (cdf < 1.0 - 1e-13)
    assert plain.mean() > 0.4
    unit = EPS * np.maximum(np.maximum(1.0, np.abs(y)), 1.0 / np.where(plain, 1.0 - cdf, 1.0))
    errors = np.abs(y - np.where(plain, their_y, y)) / unit
    assert errors[plain].max() <= 6.0
    their_log = np.where(plain, recorded("logpdf") + recorded("logit_logd"), log_derivative)
    errors = np.abs(log_derivative - their_log) / np.maximum(unit, EPS * np.abs(log_derivative))
    assert errors[plain].max() <= 12.0


@pytest.mark.parametrize("group", POINTS)
def test_points(golden, group):
    check_points(golden, group, *parameters(golden, group))


def test_standard_logistic(golden):
    zeros = np.zeros((golden["scan/x"].size, 1))
    check_points(golden, "scan", zeros, zeros, zeros)


@pytest.mark.parametrize("group", QUANTILES)
def test_quantiles(golden, group):
    """Both implementations have the same F, and the same x where the density is not tiny."""
    u = golden[f"{group}/y_grid"].astype(np.float64)
    inner = (u > 0.0) & (u < 1.0)
    u = u[inner]
    mixture = [
        np.broadcast_to(p[:, None], (len(p), u.size, p.shape[-1]))
        for p in parameters(golden, group)
    ]
    theirs = golden[f"{group}/f64/invcdf_cifar"][:, inner]
    their_y, their_log = logit_cdf(theirs, *mixture)
    np.testing.assert_allclose(sigmoid(their_y), np.broadcast_to(u, theirs.shape), atol=1e-9)

    target = np.broadcast_to(np.log(u) - np.log1p(-u), theirs.shape)
    found = MixtureLogistic(*(p[None, None] for p in mixture)).inverse(target[None, None])[0][0, 0]
    dense = their_log + log_sigmoid_slope(their_y) > np.log(1e-6)
    np.testing.assert_allclose(found[dense], theirs[dense], rtol=1e-8, atol=1e-8)
