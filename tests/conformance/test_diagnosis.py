"""The diagnosis names known causes, and none where no pattern matches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapter import ReferenceAdapter
from conformance.adapters.flowpp import FlowppAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from conformance.laws.trial import Trial
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


def inversely_permuted(spec, x, context):
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
        "log_det of InvertibleConv lacks the factor H*W = 6",
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
        {"forward": inversely_permuted},
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
def test_known_causes_are_named(name):
    case, law, directions, hint = PATTERNS[name]
    result = judge_faulty(case, law, **directions)
    assert result.status == "fails"
    assert hint in result.hint, result.hint


@pytest.mark.parametrize("name", ["sign", "positions", "per batch", "halves", "clamp", "constant"])
def test_known_causes_are_named_in_float32(name):
    case, law, directions, hint = PATTERNS[name]
    result = judge_faulty(case, law, "float32", **directions)
    assert hint in result.hint, result.hint


def test_float32_inside_is_named():
    result = judge_faulty("mixture_logistic/four_components", "forward", forward=in_float32)
    assert "some operation is in float32" in result.hint


def infinite_above(limit_of):
    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(y > limit_of(y), np.inf, y), log_det

    return forward


def test_an_infinite_result_is_located_and_its_cause_is_marked_as_a_guess():
    fault = infinite_above(lambda y: y.mean() + 1)
    result = judge_faulty("affine/shared", "forward", forward=fault)
    trial = Judge(ReferenceAdapter).trial(CASES["affine/shared"], "float64")
    y = trial.want_forward[0]
    first = tuple(int(i) for i in np.argwhere(y > y.mean() + 1)[0])
    place = f"forward is inf at {list(first)}, where x = {trial.x[first]:.3g}"
    assert result.hint.startswith(place)
    assert "; possibly an exponential overflows" in result.hint
    assert "from" not in result.hint  # some larger inputs have a finite result


def test_results_that_are_infinite_from_a_size_on():
    def overflows(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(abs(x) > 2.0, np.inf, y), log_det

    result = judge_faulty("affine/shared", "contract", forward=overflows)
    assert "all with |x| from 2." in result.hint


def test_an_infinite_log_det_is_located():
    infinite = with_log_det(lambda d, x: np.where(np.arange(len(d)) == 1, -np.inf, d))
    result = judge_faulty("affine/shared", "log_det", **infinite)
    assert result.hint.startswith("log_det of forward is -inf at [1]; possibly")


def test_the_hint_of_a_law_is_marked_as_a_guess():
    def in_storage_order(spec, x, context):
        return spec.forward(np.ravel(x, order="K").reshape(x.shape), context)

    result = judge_faulty("affine/shared", "layout", forward=in_storage_order)
    assert result.hint == f"possibly {LAWS['layout'].hint}"


def test_no_cause_is_named_for_an_unknown_pattern():
    def odd(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y + np.sin(7 * x), log_det + np.sin(y).reshape(len(y), -1).sum(1)

    result = judge_faulty("affine/shared", "forward", forward=odd)
    assert result.status == "fails" and result.hint == ""


def test_a_law_that_holds_has_no_hint():
    result = judge_faulty("affine/shared", "forward")
    assert result.status == "holds" and result.hint == "" and result.reproducer == ""


def test_an_implementation_that_fails_during_the_diagnosis_is_still_reported():
    class Once:
        """Returns a result once, and exits on the next call."""

        def __init__(self, spec):
            self.spec, self.calls = spec, 0
            self.inverse = self.forward

        def forward(self, x, context=None):
            self.calls += 1
            if self.calls > 1:
                raise SystemExit
            y, log_det = self.spec.forward(x, context)
            return y + 1, log_det

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Once(spec)

    result = Judge(Adapter).judge(CASES["affine/shared"], LAWS["forward"], "float64")
    assert result.status == "fails" and result.point["parameters"]["class"] == "Affine"


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

    result = Judge(Adapter).judge(CASES[case], LAWS["value"], "float64")
    assert hint in result.hint


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

    result = Judge(Adapter).judge(CASES["flow_plus_plus/variational"], LAWS["value"], "float64")
    assert "log q is left out of the bound" in result.hint


def overwritten(spec, y, context):
    x, log_det = spec.inverse(y, context)
    return x + (len(y) == 1), log_det


def test_a_failure_of_a_law_of_both_directions_shows_the_input_that_failed():
    """The batch law starts from both inputs: here the inverse fails, and its input is y."""
    result = judge_faulty("affine/shared", "batch", inverse=overwritten)
    assert "inverse, alone" in result.message
    assert {"x", "y"} & set(result.point) == {"y"}


@pytest.mark.parametrize(("law", "shown"), [("round_trip_x", "x"), ("round_trip_y", "y")])
def test_a_failure_shows_the_input_that_the_law_starts_from(law, shown):
    result = judge_faulty("affine/shared", law, inverse=lambda s, y, c: s.inverse(y + 1.0, c))
    assert result.status == "fails"
    assert {"x", "y"} & set(result.point) == {shown}


@pytest.mark.parametrize("law", [law for law in LAWS.values() if law.family == "bijector"])
def test_a_law_states_the_direction_it_starts_with(law):
    """The inputs that a check reads before any other are those of its direction."""
    read = []

    class Recording(Trial):
        def __getattribute__(self, name):
            if name in ("x", "y", "forward", "inverse", "reference"):
                read.append({"x": "x", "y": "y"}.get(name, ""))
            return super().__getattribute__(name)

    case = CASES["mixture_logistic/line" if law.requires == "densities" else "affine/shared"]
    trial = Recording(case, FlowppAdapter, "float64", "typical", 0)
    list(law.check(trial))
    first = next(name for name in read if name)
    assert first in law.inputs
