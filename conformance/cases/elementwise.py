"""Cases of the elementwise maps."""

from __future__ import annotations

import numpy as np

from reference.bijectors import ActNorm, Affine, DataLogit, MixtureLogistic, Sigmoid

from .case import Case, Scalars, Tolerance
from .draws import BATCH, Rng, act_norm, magnitudes, normal, opposite, uniform

_UNRESOLVED = dict.fromkeys(
    ("jacobian", "inverse_jacobian", "reference_jacobian"),
    "finite differences resolve no example",
)
_TOO_NARROW = "x near 1 is rounded to more than the narrowest scale"
_TO_20 = "log-scales of size 20 that cancel"
_TO_12 = "log-scales of size 12 that cancel"
SHAPE = (2, 2, 3)


def _floored_act_norm(rng: Rng) -> ActNorm:
    gain = rng.uniform(0.5, 1.5, (2, 1, 1))
    gain[1] = -0.3  # below the floor of 1e-10
    bias = rng.standard_normal((2, 1, 1))
    bias[1] = 0.0  # so that finite differences resolve the slope of 1e-10
    return ActNorm(gain, bias)


def _affine(rng: Rng, *shape: int, largest: float = 2.0) -> Affine:
    return Affine(rng.uniform(-largest, largest, shape), rng.standard_normal(shape))


def _mixture(
    rng: Rng,
    components: int,
    *,
    batch: int = 1,
    log_scales: tuple[float, float] = (-2.0, 1.0),
    logit_scale: float = 1.0,
) -> MixtureLogistic:
    shape = (batch, *SHAPE, components)
    return MixtureLogistic(
        logit_scale * rng.standard_normal(shape),
        1.5 * rng.standard_normal(shape),
        rng.uniform(*log_scales, shape),
    )


def _tied_mixture(rng: Rng) -> MixtureLogistic:
    """Build a mixture whose components are all equal: a single logistic."""
    shape = (1, *SHAPE, 1)
    ones = np.ones(5)
    return MixtureLogistic(
        rng.standard_normal((1, *SHAPE, 5)),
        ones * np.round(rng.standard_normal(shape)),
        ones * rng.uniform(-2.0, 1.0, shape),
    )


def _around(components: int, log_scales: tuple[float, float], widths: tuple[float, ...]):
    """Return a draw of x near a random component of `_mixture`.

    It draws the specification's parameters again, to know means and scales.

    Args:
        components: Number of components.
        log_scales: Range of the log-scales.
        widths: Distance from the component's mean in scales, for each example.
    """

    def draw(rng: Rng) -> np.ndarray:
        spec = _mixture(np.random.default_rng(0), components, log_scales=log_scales)
        chosen = rng.integers(components, size=(BATCH, *SHAPE, 1))
        means, scales = (
            np.take_along_axis(np.broadcast_to(p, (BATCH, *SHAPE, components)), chosen, -1)[..., 0]
            for p in (spec.means, np.exp(spec.log_scales))
        )
        width = np.array(widths).reshape(-1, 1, 1, 1)
        return means + scales * width * rng.uniform(-1.0, 1.0, means.shape)

    return draw


def _extremes_and_body(rng: Rng) -> np.ndarray:
    """Draw two opposite examples with |x| up to 1e3, and one up to 10."""
    x = magnitudes(*SHAPE, largest=1e3)(rng)
    x[2] = np.clip(x[2], -10.0, 10.0)
    return x


def _at_ties(rng: Rng) -> np.ndarray:
    """Draw x on the means exactly (whole numbers), and far away."""
    x = np.round(2.0 * rng.standard_normal((BATCH, *SHAPE)))
    x[0] = magnitudes(*SHAPE, largest=1e3)(rng)[0]
    return x


def _wide(rng: Rng) -> MixtureLogistic:
    """Build scales up to e^90, beyond float32, whose y is of size 1 where x is within it."""
    spec = _mixture(rng, 4, log_scales=(80.0, 90.0))
    return MixtureLogistic(spec.logits, 1e30 * spec.means, spec.log_scales)


def _level_ends(levels: int):
    """Return a draw of 0 and `levels` exactly, numbers next to them, and whole levels."""

    def draw(rng: Rng) -> np.ndarray:
        ends = np.array([0.0, levels, 1e-3, levels - 1e-3, 1.0, levels - 1.0, levels / 2])
        return rng.choice(ends, (BATCH, *SHAPE))

    return draw


def _saturating(rng: Rng) -> np.ndarray:
    """Draw x as far out as its sigmoid in float32 determines it: further left than right."""
    x = rng.uniform(-10.0, 10.0, (BATCH, *SHAPE))
    x[0] = rng.uniform(-80.0, 12.0, SHAPE)
    return x


def pixel_domain(levels: int, margin: float = 0.05) -> tuple[float, float]:
    """Return the ends of a DataLogit's domain, slightly beyond 0 and `levels`."""
    outside = levels * margin / (1.0 - 2.0 * margin)
    return -outside, levels + outside


def logit_range(margin: float) -> tuple[float, float]:
    """Return the ends of the levels' image: not the whole line, because of the margin."""
    end = float(np.log1p(-margin) - np.log(margin))
    return -end, end


CASES = (
    Case(
        "act_norm/activation",
        lambda rng: act_norm(rng, *SHAPE),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        scalars=Scalars(),
    ),
    Case(
        "act_norm/channel",
        lambda rng: act_norm(rng, 2),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        scalars=Scalars(),
    ),
    Case(
        "act_norm/floor",
        _floored_act_norm,
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        scalars=Scalars(),
    ),
    Case(
        "affine/shared",
        lambda rng: _affine(rng, 2, 1, 3),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        scalars=Scalars(),
    ),
    Case(
        "affine/log_scales_to_12",
        lambda rng: _affine(rng, 1, *SHAPE, largest=12.0),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        tolerances={
            "inverse_log_det": Tolerance(60, _TO_12),
            "inverse_jacobian": Tolerance(32, _TO_12, "float32"),
        },
        scalars=Scalars(),
    ),
    Case(
        "affine/log_scales_to_20",
        lambda rng: _affine(rng, 1, *SHAPE, largest=20.0),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        tolerances={
            "inverse_log_det": Tolerance(100, _TO_20),
        },
        without=_UNRESOLVED,
        scalars=Scalars(),
    ),
    Case(
        "affine/per_example",
        lambda rng: _affine(rng, BATCH, *SHAPE),
        normal(*SHAPE),
        magnitudes(*SHAPE, largest=1e4),
        fixed_batch=True,
    ),
    Case(
        "mixture_logistic/four_components",
        lambda rng: _mixture(rng, 4),
        normal(*SHAPE, scale=2),
        _extremes_and_body,
        noise=normal(*SHAPE, scale=2),
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/one_component",
        lambda rng: _mixture(rng, 1),
        normal(*SHAPE, scale=2),
        _extremes_and_body,
        noise=normal(*SHAPE, scale=2),
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/thirty_two_components",
        lambda rng: _mixture(rng, 32),
        normal(*SHAPE, scale=2),
        _extremes_and_body,
        noise=normal(*SHAPE, scale=2),
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/per_example",
        lambda rng: _mixture(rng, 4, batch=BATCH),
        normal(*SHAPE, scale=2),
        _extremes_and_body,
        fixed_batch=True,
    ),
    Case(
        "mixture_logistic/large_logits",
        lambda rng: _mixture(rng, 4, logit_scale=30.0),
        normal(*SHAPE, scale=2),
        _extremes_and_body,
        noise=normal(*SHAPE, scale=2),
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/ties",
        _tied_mixture,
        _at_ties,
        _at_ties,
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/log_scales_-12_to_6",
        lambda rng: _mixture(np.random.default_rng(0), 4, log_scales=(-12.0, 6.0)),
        _around(4, (-12.0, 6.0), (1.0, 2.0, 4.0)),
        _extremes_and_body,
        tolerances={
            "inverse_gradients": Tolerance(
                80_000, "x near 1 is rounded to 1e-2 of the narrowest scale", "float32"
            )
        },
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/log_scales_-20_to_20",
        lambda rng: _mixture(np.random.default_rng(0), 4, log_scales=(-20.0, 20.0)),
        _around(4, (-20.0, 20.0), (1.0, 2.0, 4.0)),
        _extremes_and_body,
        without={"inverse_gradients": _TOO_NARROW, **_UNRESOLVED},
    ),
    Case(
        "mixture_logistic/log_scales_to_90",
        _wide,
        normal(*SHAPE, scale=1e36),
        normal(*SHAPE, scale=1e37),
        noise=normal(*SHAPE, scale=0.01),
        without={"inverse_gradients": "dx/dy is up to e^90, beyond float32"},
    ),
    Case(
        "mixture_logistic/narrow",
        lambda rng: _mixture(np.random.default_rng(0), 4, log_scales=(-9.0, -6.0)),
        _around(4, (-9.0, -6.0), (1.0, 2.0, 4.0)),
        _around(4, (-9.0, -6.0), (4.0, 8.0, 12.0)),
        tolerances={
            "inverse_gradients": Tolerance(
                1_200_000, "x near 1 is rounded to 1e-3 of a scale", "float32"
            )
        },
        scalars=Scalars(),
    ),
    Case(
        "mixture_logistic/plateaus",
        lambda rng: _mixture(np.random.default_rng(0), 4, log_scales=(-9.0, -6.0)),
        _around(4, (-9.0, -6.0), (2.0, 8.0, 40.0)),
        _around(4, (-9.0, -6.0), (2.0, 40.0, 400.0)),
        without={"inverse_gradients": "on a plateau a quantile's true gradient overflows"},
        scalars=Scalars(),
    ),
    Case(
        "data_logit/256_levels",
        lambda rng: DataLogit(256),
        uniform(*SHAPE, low=0.0, high=256.0),
        _level_ends(256),
        noise=normal(*SHAPE),
        domain=pixel_domain(256),
        scalars=Scalars(0.0, 256.0, logit_range(0.05)),
    ),
    Case(
        "data_logit/8_levels",
        lambda rng: DataLogit(8, 0.01),
        uniform(*SHAPE, low=0.0, high=8.0),
        _level_ends(8),
        noise=normal(*SHAPE),
        domain=pixel_domain(8, 0.01),
        scalars=Scalars(0.0, 8.0, logit_range(0.01)),
    ),
    Case(
        "sigmoid",
        lambda rng: Sigmoid(),
        normal(*SHAPE, scale=2.0),
        _saturating,
        noise=uniform(*SHAPE, low=0.0, high=1.0),
        image=(0.0, 1.0),
        scalars=Scalars(range=(0.0, 1.0)),
    ),
    Case(
        "sigmoid/both_tails",
        lambda rng: Sigmoid(),
        normal(*SHAPE, scale=5.0),
        lambda rng: opposite(rng.uniform(-80.0, 80.0, (BATCH, *SHAPE))),
        noise=uniform(*SHAPE, low=0.0, high=1.0),
        image=(0.0, 1.0),
        without={"round_trip_x": "y rounds to 1 in the right tail", **_UNRESOLVED},
    ),
)
