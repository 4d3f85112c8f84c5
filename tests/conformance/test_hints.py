"""Each likely mistake of a port is named by its hint, under the laws that it breaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faulty import judge_faulty
from reference.bijectors import ActNorm, Affine, MixtureLogistic

MIXTURE = "mixture_logistic/four_components"


def log_det(change):
    def forward(spec, x, context):
        y, found = spec.forward(x, context)
        return y, change(spec, np.asarray(x, np.float64), found)

    return {"forward": forward}


def other(change, direction="forward"):
    """Compute another specification."""
    return {direction: lambda spec, x, context: getattr(change(spec), direction)(x, context)}


def pixel_unshuffle(spec, x, context):
    b, c, h, w = x.shape
    y = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(b, 4 * c, h // 2, w // 2), np.zeros(b)


def log_sigmoid(z):
    return -np.logaddexp(0.0, -z)


def mixture_terms(spec, x):
    z = (x[..., None] - spec.means) * np.exp(-spec.log_scales)
    weights = spec.logits - np.logaddexp.reduce(spec.logits, axis=-1, keepdims=True)
    return weights, z


def per_example(terms):
    return terms.reshape(len(terms), -1).sum(1)


def without_log_scale(spec, x, found):
    weights, z = mixture_terms(spec, x)
    inner = weights + log_sigmoid(z) + log_sigmoid(-z)
    with_scale = np.logaddexp.reduce(inner - spec.log_scales, axis=-1)
    return found - per_example(with_scale - np.logaddexp.reduce(inner, axis=-1))


def without_survival(spec, x, found):
    weights, z = mixture_terms(spec, x)
    return found + per_example(np.logaddexp.reduce(weights + log_sigmoid(-z), axis=-1))


def bisected(steps, end):
    def inverse(spec, y, context):
        low, high = np.full(y.shape, -end), np.full(y.shape, end)
        for _ in range(steps):
            middle = 0.5 * (low + high)
            below = spec.forward(middle)[0] < y
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        x = 0.5 * (low + high)
        return x, -spec.forward(x)[1]

    return {"inverse": inverse}


def with_epsilon(epsilon):
    def change(spec):
        if isinstance(spec, ActNorm):
            return ActNorm(spec.gain + epsilon, spec.bias)
        scales = np.log(np.exp(spec.log_scales) + epsilon)
        return MixtureLogistic(spec.logits, spec.means, scales)

    return change


def of_the_whole_batch(spec, x, context):
    y, found = spec.forward(x, context)
    return y + 0.1 * np.tanh(x).std(), found


def counting(spec, x, context):
    y, found = spec.forward(x, context)
    calls = COUNTS[id(spec)] = COUNTS.get(id(spec), 0) + 1
    return y + 1e-3 * calls, found


COUNTS: dict[int, int] = {}


def drawing(spec, x, context):
    y, found = spec.forward(x, context)
    return y + 1e-6 * np.random.standard_normal(y.shape), found


def in_place(spec, x, context):
    y, found = spec.forward(x, context)
    x *= 2.0
    return y, found


def first_parameters(spec):
    return dataclasses.replace(
        spec, **{f.name: getattr(spec, f.name)[:1] for f in dataclasses.fields(spec)}
    )


def in_float32(spec, x, context):
    single = ActNorm(np.float32(spec.gain), np.float32(spec.bias))
    y = np.float32(x) * np.float32(single.gain) + np.float32(single.bias)
    return np.float64(y), spec.forward(x, context)[1]


MISTAKES = {
    "channels slow": ("squeeze", "forward", {"forward": pixel_unshuffle}, "PixelUnshuffle"),
    "twice": (MIXTURE, "log_det", log_det(lambda s, x, d: 2 * d), "is 2 times the truth"),
    "half": (MIXTURE, "log_det", log_det(lambda s, x, d: d / 2), "is 0.5 times the truth"),
    "exponentiated": (
        "act_norm/channel",
        "forward",
        other(lambda s: ActNorm(np.exp(s.gain), s.bias)),
        "the gain is exponentiated",
    ),
    "sign of log-scale": (
        "affine/shared",
        "forward",
        other(lambda s: Affine(-s.log_scale, s.shift)),
        "the log-scale has the opposite sign",
    ),
    "sign of log-scales": (
        MIXTURE,
        "forward",
        other(lambda s: MixtureLogistic(s.logits, s.means, -s.log_scales)),
        "the log-scale has the opposite sign",
    ),
    "no log-scale": (MIXTURE, "log_det", log_det(without_log_scale), "lacks the term -log_scale"),
    "no survival": (MIXTURE, "log_det", log_det(without_survival), "lacks the term -log(1 - F)"),
    "20 steps": (MIXTURE, "inverse", bisected(20, 1e4), "after 20 steps of bisection of [-10000"),
    "30 steps": (MIXTURE, "inverse", bisected(30, 1234.5), "possibly too few steps"),
    "epsilon": (
        "act_norm/channel",
        "forward",
        other(with_epsilon(1e-5)),
        "an epsilon of 1e-05 is added to the scale",
    ),
    "epsilon of a mixture": (
        MIXTURE,
        "forward",
        other(with_epsilon(1e-8)),
        "an epsilon of 1e-08 is added to the scale",
    ),
    "mean": (
        MIXTURE,
        "forward",
        {"forward": lambda s, x, c: s.forward(x - 0.3, c)},
        "an input shifted by -0.3",
    ),
    "batch": (
        "affine/shared",
        "forward",
        {"forward": of_the_whole_batch},
        "depends on the others in its batch",
    ),
    "earlier calls": (
        "affine/shared",
        "forward",
        {"forward": counting},
        "changes from call to call",
    ),
    "generator": (
        "affine/shared",
        "determinism",
        {"forward": drawing},
        "depends on a global random generator",
    ),
    "written to": ("affine/shared", "contract", {"forward": in_place}, "in-place operation"),
    "first example": (
        "affine/per_example",
        "forward",
        other(first_parameters),
        "the first example's parameters are used",
    ),
    "float32": ("act_norm/channel", "forward", {"forward": in_float32}, "is in float32"),
    "float16": (
        "act_norm/channel",
        "forward",
        {"forward": lambda s, x, c: s.forward(np.float64(np.float16(x)), c)},
        "the input is rounded to 11 bits, as by float16",
    ),
}

FIELDS = {
    "means": (MIXTURE, lambda m: {"means": -m.means}, "the means have the opposite sign"),
    "components": (
        MIXTURE,
        lambda m: {"means": m.means[..., ::-1]},
        "the means belong to the components in reverse order",
    ),
    "logits": (
        MIXTURE,
        lambda m: {"logits": np.exp(m.logits)},
        "exponentiated before the softmax",
    ),
    "temperature": (
        MIXTURE,
        lambda m: {"logits": m.logits / 0.8},
        "logits are multiplied by 1.25",
    ),
    "exchanged": (
        MIXTURE,
        lambda m: {"logits": m.means, "means": m.logits},
        "the logits and the means of the mixture are exchanged",
    ),
    "softplus": (
        MIXTURE,
        lambda m: {"log_scales": np.log(np.logaddexp(0.0, m.log_scales))},
        "the scales are the softplus of the log-scales",
    ),
    "variance": (
        "affine/shared",
        lambda a: {"log_scale": 2 * a.log_scale},
        "the exponential of twice the log-scale",
    ),
    "shift": ("affine/shared", lambda a: {"shift": -a.shift}, "the shift has the opposite sign"),
    "factor": ("affine/shared", lambda a: {"shift": 0.613 * a.shift}, "multiplied by 0.613"),
    "clamp": (
        "affine/log_scales_to_20",
        lambda a: {"log_scale": np.minimum(a.log_scale, 12.34)},
        "the log-scales are clamped to at most 12.34",
    ),
    "levels": ("data_logit/256_levels", lambda d: {"levels": 255}, "levels is one too small"),
    "margin": (
        "data_logit/256_levels",
        lambda d: {"margin": 0.0437},
        "the margin is 0.0437, not the specification's 0.05",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name):
    case, law, directions, hint = MISTAKES[name]
    result = judge_faulty(case, law, **directions)
    assert result.status == "fails", result.message
    assert hint in result.hint, result.hint


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_parameter_is_named(name):
    case, fields, hint = FIELDS[name]
    wrong = other(lambda spec: dataclasses.replace(spec, **fields(spec)))
    result = judge_faulty(case, "forward", **wrong)
    assert result.status == "fails", result.message
    assert hint in result.hint, result.hint


def test_the_bijectors_of_a_coupling_have_mistakes_too():
    def forward(spec, x, context):
        def family(raw):
            member = spec.family(raw)
            mixture = member.bijectors[0]
            clipped = np.maximum(mixture.log_scales, -7.0)
            fixed = dataclasses.replace(mixture, log_scales=clipped)
            return dataclasses.replace(member, bijectors=(fixed, *member.bijectors[1:]))

        family.parameters_per_scalar = spec.family.parameters_per_scalar
        return dataclasses.replace(spec, family=family).forward(x, context)

    result = judge_faulty("coupling/mixture_narrow", "forward", forward=forward)
    assert result.hint == "the log-scales are clamped to at least -7"


def test_the_half_that_a_coupling_changes_is_not_a_place():
    def forward(spec, x, context):
        y, found = spec.forward(x, context)
        y[:, y.shape[1] // 2 :] += np.sin(7 * y[:, y.shape[1] // 2 :])
        return y, found

    result = judge_faulty("coupling/affine", "forward", forward=forward)
    assert result.status == "fails" and result.hint == ""


def test_results_that_are_not_finite_are_no_sign_of_a_large_batch():
    def forward(spec, x, context):
        with np.errstate(divide="ignore"):
            return spec.forward(x, context)[0] / np.zeros_like(x), spec.forward(x, context)[1]

    result = judge_faulty("act_norm/floor", "forward", forward=forward)
    assert result.status == "fails" and "large batch" not in result.hint


def test_a_mistake_that_a_log_det_contradicts_is_not_named():
    """The values are those of the mistake; the log-det is neither right nor that of it."""

    def inverse(spec, y, context):
        narrow = MixtureLogistic(spec.logits, spec.means, -spec.log_scales)
        return narrow.inverse(y, context)[0], spec.inverse(y, context)[1] + np.arange(len(y))

    result = judge_faulty("mixture_logistic/four_components", "inverse", inverse=inverse)
    assert result.status == "fails" and "opposite sign" not in result.hint


@pytest.mark.parametrize("law", ["forward", "log_det", "inverse", "batch", "layout", "contract"])
def test_an_exception_is_shown_without_a_guess(law):
    def raising(spec, x, context):
        raise RuntimeError("no kernel for this shape")

    result = judge_faulty("affine/shared", law, forward=raising, inverse=raising)
    assert "RuntimeError: no kernel for this shape" in result.message
    assert result.hint == ""


@pytest.mark.parametrize("case", [MIXTURE, "affine/shared", "act_norm/channel", "squeeze"])
def test_float32_is_not_blamed_for_other_errors(case):
    """Errors of float32's size, but not everywhere, and not those of float32."""

    def forward(spec, x, context):
        y, found = spec.forward(x, context)
        return y + 1e-7 * (y > np.median(y)), found

    result = judge_faulty(case, "forward", forward=forward)
    assert "float32" not in result.hint
