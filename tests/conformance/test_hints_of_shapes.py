"""Hints where several mistakes fit one shape, or a symptom hides the mistake."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.cases.case import Case
from conformance.cases.draws import normal
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from faulty import faulty_adapter, judge_faulty
from reference.bijectors import ActNorm, Chain, Squeeze

SLOW = (
    "Squeeze has the right numbers in another order: the channel is the slow index, as in torch's "
    "PixelUnshuffle, and must be the fast one"
)


def height_squared(spec, x, context):
    y, log_det = spec.forward(x, context)
    return y, log_det * x.shape[2] / x.shape[3]


def unshuffled(spec, x, context):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // 2, 2, w // 2, 2)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2), np.zeros(b)


def shuffled(spec, y, context):
    b, c, h, w = y.shape
    y = y.reshape(b, c // 4, 2, 2, h, w)
    return y.transpose(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w), np.zeros(b)


@pytest.mark.parametrize("law", ["random_specs", "sizes"])
@pytest.mark.parametrize("name", ["invertible_conv", "act_norm"])
def test_the_square_of_the_height_is_not_taken_for_one(name, law):
    """The smallest counterexample has one row, where H*H is 1."""
    result = judge_faulty(f"{name}/random", law, forward=height_squared)
    assert result.status == "fails"
    assert "is counted H*H times, not at each of H*W positions" in result.hint, result.hint
    assert "once" not in result.hint and "exactly those are wrong" not in result.hint


def test_all_counts_that_fit_one_shape_are_named():
    case = Case(
        "act_norm/row", lambda rng: ActNorm(*rng.random((2, 2, 1, 1))), *[normal(2, 1, 2)] * 2
    )
    result = Judge(faulty_adapter(forward=height_squared)).judge(case, LAWS["log_det"], "float64")
    assert result.hint == (
        "log_det of ActNorm is counted once or H*H or H*W/2 times, not H*W = 2 times: H = 1 and "
        "W = 2 do not tell which"
    )


@pytest.mark.parametrize(
    ("case", "law"),
    [
        ("squeeze", "forward"),
        ("squeeze", "inverse"),
        ("squeeze", "special_values"),
        ("squeeze/random", "sizes"),
        ("squeeze/random", "random_specs"),
    ],
)
def test_the_order_is_named_by_every_law_and_in_both_directions(case, law):
    result = judge_faulty(case, law, forward=unshuffled, inverse=shuffled)
    assert result.hint == SLOW


def test_differences_that_resolve_no_example_are_not_compared():
    """The inverse of the other order is a permutation too: its Jacobian has the determinant 1."""
    result = judge_faulty("squeeze", "inverse_jacobian", forward=unshuffled, inverse=shuffled)
    assert result.status == "holds", result.message
    assert sum(result.not_compared.values()) > 0


def test_an_inverse_with_a_singular_jacobian_fails():
    def constant(spec, y, context):
        return 0.0 * spec.inverse(y)[0], np.zeros(len(y))

    result = judge_faulty("squeeze", "inverse_jacobian", inverse=constant)
    assert result.status == "fails" and "resolve no example" in result.message


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_order_is_named_inside_a_composition(direction):
    gain = ActNorm(np.array([0.5, 2.0]).reshape(2, 1, 1), np.zeros((2, 1, 1)))
    case = Case("chain/squeezed", lambda rng: Chain((gain, Squeeze())), *[normal(2, 4, 2)] * 2)

    def forward(spec, x, context):
        y, log_det = gain.forward(x)
        return unshuffled(spec, y, context)[0], log_det

    def inverse(spec, y, context):
        x, log_det = gain.inverse(shuffled(spec, y, context)[0])
        return x, log_det

    judge = Judge(faulty_adapter(forward=forward, inverse=inverse))
    assert judge.judge(case, LAWS[direction], "float64").hint == SLOW


def test_an_unknown_order_says_where_a_number_belongs():
    def rolled(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.roll(y, 1, axis=3), log_det

    result = judge_faulty("squeeze", "forward", forward=rolled)
    assert "the number at [0, 0, 0, 0] belongs at [0, 0, 0, 2]" in result.hint


def test_a_cause_that_another_failure_does_not_have_is_a_guess():
    """Only examples of one row and two columns have half of the log-det; others are wrong too."""

    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        if x.shape[2:] == (1, 2):
            return y, 0.5 * log_det
        return y, log_det + np.sin(7 * y + 1).sum(axis=(1, 2, 3)) * (x.size > 2)

    result = judge_faulty("invertible_conv/random", "random_specs", forward=forward)
    assert result.status == "fails"
    assert not result.hint or result.hint.startswith("possibly"), result.hint


def test_a_wrong_log_det_is_not_taken_for_that_of_other_parameters():
    result = judge_faulty("invertible_conv/joint", "determinism", forward=height_squared)
    assert result.status == "holds", result.message
