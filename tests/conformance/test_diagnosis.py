"""The probable cause is named where the pattern is a known one, and not where it is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from faulty import judge_faulty
from reference.bijectors import InvertibleConv


def with_log_det(change):
    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, change(log_det, x)

    return {"forward": forward}


def exchanged(x):
    return np.concatenate(np.split(x, 2, axis=1)[::-1], axis=1)


def swapped(direction):
    def answer(spec, x, context):
        y, log_det = getattr(spec, direction)(exchanged(x), context)
        return exchanged(y), log_det

    return answer


def transposed(spec, x, context):
    return InvertibleConv(spec.weight.swapaxes(1, 2)).forward(x, context)


def wrong_way(spec, x, context):
    rows = np.argsort(spec.permutation, axis=1)
    return dataclasses.replace(spec, permutation=rows).forward(x, context)


def clamped_forward(spec, x, context):
    y, log_det = spec.forward(x, context)
    end = np.log1p(-1e-5) - np.log(1e-5)
    return np.clip(y, -end, end), log_det


def clamped_inverse(spec, y, context):
    end = np.log1p(-1e-12) - np.log(1e-12)
    return spec.inverse(np.clip(y, -end, end), context)


def bracket(spec, y, context):
    x, log_det = spec.inverse(y, context)
    return np.clip(x, -10.0, 10.0), log_det


def in_float32(spec, x, context):
    y, log_det = spec.forward(x.astype(np.float32), context)
    return y.astype(np.float32), log_det


def without_last(spec, x, context):
    y, log_det = spec.forward(x, context)
    middle, first = spec.bijectors[0].forward(x, context)
    return y, first


PATTERNS = {
    "sign": ("affine/shared", "log_det", with_log_det(lambda d, x: -d), "opposite sign"),
    "lost": ("affine/shared", "log_det", with_log_det(lambda d, x: 0 * d), "is 0: lost"),
    "positions": (
        "invertible_conv/joint",
        "log_det",
        with_log_det(lambda d, x: d / x[0, 0].size),
        "log_det of InvertibleConv lacks the factor H*W = 4",
    ),
    "per batch": (
        "affine/per_example",
        "log_det",
        with_log_det(lambda d, x: np.full_like(d, d.sum())),
        "per batch, not per example",
    ),
    "mean": (
        "affine/shared",
        "log_det",
        with_log_det(lambda d, x: d / x[0].size),
        "the mean over channels and positions",
    ),
    "constant": (
        "data_logit/256_levels",
        "log_det",
        with_log_det(lambda d, x: d + 12 * 5.0),
        "differs by the same 60 in every example, 5 a scalar",
    ),
    "log2": (
        "data_logit/256_levels",
        "log_det",
        with_log_det(lambda d, x: d * np.log(2)),
        "natural logarithm for log2",
    ),
    "a part": (
        "chain/mixture_and_affine",
        "log_det",
        {"forward": without_last},
        "log_det of Affine (bijectors.1) is not added",
    ),
    "halves": (
        "coupling/affine",
        "forward",
        {"forward": swapped("forward")},
        "halves swapped",
    ),
    "halves, inverse": (
        "coupling/affine",
        "inverse",
        {"inverse": swapped("inverse")},
        "halves swapped",
    ),
    "transposed": (
        "invertible_conv/halves",
        "forward",
        {"forward": transposed},
        "is transposed",
    ),
    "permutation": (
        "invertible_conv_lu/joint",
        "forward",
        {"forward": wrong_way},
        "the wrong way round",
    ),
    "clamp": (
        "mixture_logistic/four_components",
        "forward",
        {"forward": clamped_forward},
        "clamped at 1e-05: forward is wrong beyond |y| = 11.51",
    ),
    "clamp, inverse": (
        "mixture_logistic/four_components",
        "inverse",
        {"inverse": clamped_inverse},
        "clamped at 1e-12: inverse",
    ),
    "bracket": (
        "mixture_logistic/four_components",
        "round_trip_x",
        {"inverse": bracket},
        "inverse saturates",
    ),
    "shape": (
        "affine/shared",
        "contract",
        with_log_det(lambda d, x: d.sum()),
        "summed over the batch as well",
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_known_patterns_are_named(name):
    case, law, directions, hint = PATTERNS[name]
    cell = judge_faulty(case, law, **directions)
    assert cell.status == "fails"
    assert hint in cell.hint, cell.hint


@pytest.mark.parametrize("name", ["sign", "positions", "per batch", "halves", "clamp", "constant"])
def test_known_patterns_are_named_in_float32(name):
    case, law, directions, hint = PATTERNS[name]
    cell = judge_faulty(case, law, "float32", **directions)
    assert hint in cell.hint, cell.hint


def test_float32_inside_is_named():
    cell = judge_faulty("mixture_logistic/four_components", "forward", forward=in_float32)
    assert "some operation is in float32" in cell.hint


def test_nothing_is_named_where_nothing_is_known():
    def odd(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y + np.sin(7 * x), log_det + np.sin(y).reshape(len(y), -1).sum(1)

    cell = judge_faulty("affine/shared", "forward", forward=odd)
    assert cell.status == "fails" and cell.hint == ""


def test_what_holds_has_no_hint():
    cell = judge_faulty("affine/shared", "forward")
    assert cell.status == "holds" and cell.hint == "" and cell.reproducer == ""


def test_an_implementation_that_breaks_while_it_is_diagnosed_is_still_reported():
    class Once:
        """Answers once, and leaves when asked again."""

        def __init__(self, spec):
            self.spec, self.asked = spec, 0
            self.inverse = self.forward

        def forward(self, x, context=None):
            self.asked += 1
            if self.asked > 1:
                raise SystemExit
            y, log_det = self.spec.forward(x, context)
            return y + 1, log_det

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Once(spec)

    cell = Judge(Adapter).judge(CASES["affine/shared"], LAWS["forward"], "float64")
    assert cell.status == "fails" and cell.point["parameters"]["class"] == "Affine"


@pytest.mark.parametrize(
    ("case", "change", "hint"),
    [
        (
            "bits_per_dim",
            lambda f: lambda log_prob, dims: f(log_prob, dims) * np.log(2),
            "natural logarithm for log2",
        ),
        (
            "log_normal",
            lambda f: lambda z: f(z) + 8 * np.log(2 * np.pi),
            "differs by the same 14.7",
        ),
        ("log_normal", lambda f: lambda z: -f(z), "opposite sign"),
        ("log_normal", lambda f: lambda z: 0 * f(z), "is 0: lost"),
    ],
)
def test_patterns_of_the_objective(case, change, hint):
    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return change(spec)

    cell = Judge(Adapter).judge(CASES[case], LAWS["value"], "float64")
    assert hint in cell.hint


def test_the_bound_without_its_log_q():
    class Adapter(ReferenceAdapter):
        def build(self, spec):
            def elbo(x, noise):
                bound = spec.elbo(x, noise)

                class Total:
                    log_q, log_det, log_prior = bound.log_q, bound.log_det, bound.log_prior
                    total = bound.log_det + bound.log_prior

                return Total

            return type("Model", (), {"elbo": staticmethod(elbo), "encode": spec.encode})()

    cell = Judge(Adapter).judge(CASES["flow_plus_plus/variational"], LAWS["value"], "float64")
    assert "log q is left out of the bound" in cell.hint
