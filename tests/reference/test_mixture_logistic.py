"""MixtureLogistic against hundred-digit arithmetic.

The unit of error u is eps max(1, |truth|). Bounds: y within 3 u; log dy/dx within 16 u, and always
within 10 eps max(1, |log dy/dx|, |y|), because where two components compete in a tail, their |z|
is as large as y and its rounding changes the logarithm by that much. The inverse's residual is
within 2 u as evaluated by the reference and within 3 u of the truth, or as small as float64
permits.
"""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp

from mpmath_truth import DIGITS, EPS, errors_in_u, exact, mixture_logistic
from reference.bijectors import MixtureLogistic
from reference.bijectors.mixture_logistic import logit_cdf

MAGNITUDES = np.array([0.0, 1e-3, 1.0, 5.0, 10.0, 30.0, 100.0, 1e3])
FAST = [(1, 4), (4, 4), (32, 1)]
SLOW = [(1, 40), (4, 40), (32, 12), (128, 3)]


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(DIGITS):
        yield


def grid(components, draws, *, logit_size=1.0):
    """Return points of every magnitude, absolute and in units of a component's scale."""
    rng = np.random.default_rng(components)
    xs, logits, means, log_scales = [], [], [], []
    for _ in range(draws):
        mean = 2.0 * rng.standard_normal(components)
        log_scale = rng.uniform(-12.0, 6.0, components)
        logit = logit_size * rng.standard_normal(components)
        k = rng.integers(components)
        for sign in (1.0, -1.0):
            for magnitude in sign * MAGNITUDES:
                for x in (magnitude, mean[k] + np.exp(log_scale[k]) * magnitude):
                    xs.append(x)
                    logits.append(logit)
                    means.append(mean)
                    log_scales.append(log_scale)
    return np.array(xs), np.array(logits), np.array(means), np.array(log_scales)


def extremes(components, points, *, seed):
    """Return |x| up to 1e30, log-scales of +-30, logits of +-1e4, and means up to 1e3."""
    rng = np.random.default_rng(seed)
    shape = (points, components)
    x = rng.choice([-1.0, 1.0], points) * 10.0 ** rng.uniform(-30.0, 30.0, points)
    logits = rng.uniform(-1e4, 1e4, shape)
    means = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3.0, 3.0, (points, 1))
    log_scales = rng.uniform(-30.0, 30.0, shape)
    x[:4] = 0.0, means[1, 0], 1e30, -1e30
    return x, logits, means, log_scales


def truth(x, *parameters):
    return [mixture_logistic(*point) for point in zip(x, *parameters, strict=True)]


def along_the_width(*arrays):
    """Reshape (N, ...) parameters for one image of one row and N columns."""
    return (array[None, None, None] for array in arrays)


def check_values(x, *parameters, strict=True):
    y, log_derivative = logit_cdf(x, *parameters)
    want = truth(x, *parameters)
    want_y, want_log = zip(*want, strict=True)
    assert errors_in_u(y, want_y).max() <= 3.0
    errors = errors_in_u(log_derivative, want_log)
    if strict:
        assert errors.max() <= 16.0
    wide = [max(1, abs(a), abs(b)) / max(1, abs(b)) for a, b in want]
    assert (errors / np.array(wide, dtype=float)).max() <= 10.0


def check_inverse(target, *parameters):
    bijector = MixtureLogistic(*along_the_width(*parameters))
    found = bijector.solve(target[None, None, None])
    x = found.root.ravel()
    at_x = truth(x, *parameters)
    unit = EPS * np.maximum(1.0, np.abs(target))
    residual = [y - exact(t) for (y, _), t in zip(at_x, target, strict=True)]
    for i, r in enumerate(residual):
        slope = mp.exp(at_x[i][1])
        rounding_of_x = 0.5 * float(slope) * np.spacing(abs(x[i]))
        evaluated = abs(found.residual.flat[i])
        if abs(r) <= 3.0 * unit[i] + rounding_of_x and evaluated <= 2.0 * unit[i] + rounding_of_x:
            continue
        # Two adjacent float64 numbers x straddle the target.
        beyond = np.nextafter(x[i], -np.inf if r > 0 else np.inf)
        other = mixture_logistic(beyond, *(p[i] for p in parameters))[0] - exact(target[i])
        assert abs(r) <= abs(other) and (r > 0) != (other > 0), (i, x[i], target[i], float(r))


@pytest.mark.parametrize("components, draws", FAST)
def test_values_on_the_grid(components, draws):
    check_values(*grid(components, draws))


@pytest.mark.slow
@pytest.mark.parametrize("components, draws", SLOW)
def test_values_on_the_large_grid(components, draws):
    check_values(*grid(components, draws))


@pytest.mark.slow
@pytest.mark.parametrize("components, draws", SLOW)
def test_values_with_widely_differing_weights(components, draws):
    check_values(*grid(components, draws, logit_size=30.0), strict=False)


@pytest.mark.parametrize("components", [1, 2, 5, 32])
def test_values_at_the_extremes(components):
    check_values(*extremes(components, 12, seed=components), strict=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_values_at_more_extremes(seed):
    check_values(*extremes([1, 2, 3, 8, 128][seed % 5], 12, seed=100 + seed), strict=False)


@pytest.mark.parametrize("components", [2, 7])
def test_values_at_ties(components):
    """Equal means and scales are one logistic for any weights: y = z, and 0 at the mean."""
    x = np.array([-3.0, 0.5, 0.5 + 1e-9, 2.0, 1e4])
    logits = np.random.default_rng(0).standard_normal((5, components))
    means, log_scales = np.full((5, components), 0.5), np.full((5, components), -1.0)
    check_values(x, logits, means, log_scales)
    assert logit_cdf(x, logits, means, log_scales)[0][1] == 0.0


@pytest.mark.parametrize("components, draws", FAST)
def test_inverse_on_the_grid(components, draws):
    x, *parameters = grid(components, draws)
    check_inverse(logit_cdf(x, *parameters)[0], *parameters)
    rng = np.random.default_rng(1)
    targets = rng.standard_normal(len(x)) * rng.choice([1.0, 10.0, 100.0], len(x))
    check_inverse(targets, *parameters)


@pytest.mark.slow
@pytest.mark.parametrize("components, draws", SLOW)
@pytest.mark.parametrize("logit_size", [1.0, 30.0])
def test_inverse_on_the_large_grid(components, draws, logit_size):
    x, *parameters = grid(components, draws, logit_size=logit_size)
    check_inverse(logit_cdf(x, *parameters)[0], *parameters)
    check_inverse(np.random.default_rng(1).standard_normal(len(x)) * 20.0, *parameters)


@pytest.mark.parametrize("components", [1, 3, 16])
def test_inverse_at_the_extremes(components):
    x, *parameters = extremes(components, 10, seed=components)
    check_inverse(logit_cdf(x, *parameters)[0], *parameters)
    targets = np.resize([0.0, 1e30, -1e30, 1e-20, 30.0, -500.0], len(x))
    check_inverse(targets, *parameters)


@pytest.mark.parametrize("components", [1, 2, 128])
@pytest.mark.parametrize("seed", range(5))
def test_everything_is_finite(components, seed):
    x, *parameters = extremes(components, 200, seed=seed)
    bijector = MixtureLogistic(*along_the_width(*parameters))
    for result in bijector.forward(x[None, None, None]) + bijector.inverse(x[None, None, None]):
        assert np.isfinite(result).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "logits", "means", "log_scales"])
def test_non_finite_values_give_nan(bad, where):
    arrays = {"x": np.zeros((1, 1, 2, 2))}
    arrays.update({name: np.zeros((1, 1, 2, 2, 3)) for name in ("logits", "means", "log_scales")})
    arrays[where][0, 0, 1, 0] = bad
    x = arrays.pop("x")
    bijector = MixtureLogistic(**arrays)
    expected = np.zeros(x.shape, dtype=bool)
    expected[0, 0, 1, 0] = True
    for direction in (bijector.forward, bijector.inverse):
        output, log_det = direction(x)
        np.testing.assert_array_equal(np.isnan(output), expected)
        assert np.isnan(log_det).all()


def test_infinite_z_of_one_component_leaves_the_other():
    """z = (1e300 / e^-30) overflows for one component; the other determines both tails."""
    logits, means = np.array([0.0, 1.0]), np.zeros(2)
    log_scales = np.array([-30.0, 30.0])
    for x in (1e300, -1e300):
        y, log_derivative = logit_cdf(np.float64(x), logits, means, log_scales)
        with mp.workdps(700):  # so that e^-z keeps digits at z = 1e313
            want_y, want_log = mixture_logistic(x, logits, means, log_scales)
        assert errors_in_u(y, [want_y]) <= 3.0
        assert errors_in_u(log_derivative, [want_log]) <= 16.0


def test_overflow_is_an_infinity_with_the_right_slope():
    log_scales = np.array([-30.0, -29.0])
    for x in (1e307, -1e307):
        y, log_derivative = logit_cdf(np.float64(x), np.zeros(2), np.zeros(2), log_scales)
        assert y == np.copysign(np.inf, x)
        assert log_derivative == 29.0


def test_scales_beyond_exp():
    """exp(-s) alone overflows or underflows; z does not."""
    for log_scale, x in ((-800.0, 1e-320), (-2000.0, 0.0), (800.0, 1e300), (800.0, -3.0)):
        arguments = (np.zeros(1), np.zeros(1), np.array([log_scale]))
        y, log_derivative = logit_cdf(np.float64(x), *arguments)
        want_y, want_log = mixture_logistic(x, *arguments)
        assert errors_in_u(y, [want_y]) <= 300.0  # rounding s = 800 changes e^-s by 800 eps
        assert errors_in_u(log_derivative, [want_log]) <= 3.0


def test_difference_beyond_float64():
    y, _ = logit_cdf(np.float64(1.7e308), np.zeros(1), np.array([-1.7e308]), np.array([30.0]))
    assert errors_in_u(y, [mixture_logistic(1.7e308, [0.0], [-1.7e308], [30.0])[0]]) <= 3.0


def test_weights_depend_on_differences_of_logits_only():
    rng = np.random.default_rng(3)
    x, logits = rng.standard_normal(50), rng.standard_normal((50, 4))
    means, log_scales = rng.standard_normal((2, 50, 4))
    shifted = logit_cdf(x, logits + 2.0**20, means, log_scales)
    # The shift rounds the logits to 1e-10.
    np.testing.assert_allclose(shifted, logit_cdf(x, logits, means, log_scales), atol=1e-9)


def test_parameters_are_broadcast():
    rng = np.random.default_rng(4)
    small = rng.standard_normal((3, 2, 1, 1, 5))
    full = np.broadcast_to(small[:, None], (3, 4, 2, 3, 3, 5))
    x = rng.standard_normal((4, 2, 3, 3))
    for got, want in zip(
        MixtureLogistic(*small).forward(x), MixtureLogistic(*full).forward(x), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_wrong_parameters_are_refused():
    zeros = np.zeros
    with pytest.raises(ValueError, match=r"MixtureLogistic needs .* same number of components"):
        MixtureLogistic(zeros((1, 1, 1, 3)), zeros((1, 1, 1, 4)), zeros((1, 1, 1, 3)))
    with pytest.raises(ValueError, match=r"MixtureLogistic needs means broadcastable to"):
        MixtureLogistic(zeros(3), zeros((5, 3)), zeros(3)).forward(zeros((2, 2, 4, 4)))
    with pytest.raises(ValueError, match=r"MixtureLogistic inverse needs means broadcastable to"):
        MixtureLogistic(zeros(3), zeros((5, 3)), zeros(3)).solve(zeros((2, 2, 4, 4)))
    with pytest.raises(ValueError, match=r"MixtureLogistic .* got \(4, 4\)"):
        MixtureLogistic(zeros(3), zeros(3), zeros(3)).forward(zeros((4, 4)))
