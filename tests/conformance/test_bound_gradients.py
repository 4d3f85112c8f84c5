"""The law of a whole model's gradients, on right and wrong ones."""

from __future__ import annotations

import re

import numpy as np
import pytest

from conformance.adapters.flowpp import FlowppAdapter, NumpyModule
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS


def judged(change, case="flow_plus_plus/uniform"):
    """Judge flowpp, whose dictionary of gradients is changed."""

    class Changed(NumpyModule):
        def bound_gradient(self, *arguments):
            return change(super().bound_gradient(*arguments))

    class Adapter(FlowppAdapter):
        def build(self, spec):
            module = super().build(spec)
            module.__class__ = Changed
            return module

    return Judge(Adapter).judge(CASES[case], LAWS["bound_gradients"], "float64")


def first(gradients):
    return sorted(gradients)[0]


def test_right_gradients_hold_and_additional_ones_are_ignored():
    result = judged(lambda found: {**found, "temperature": np.zeros(3)})
    assert result.status == "holds" and result.compared, result.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {n: a for n, a in g.items() if n != first(g)}, "no gradient for "),
        (lambda g: {**g, first(g): g[first(g)][None]}, "the gradient for .* shape"),
        (lambda g: {**g, first(g): np.nan * g[first(g)]}, "is not finite"),
        (list, "returned list, not a dictionary of arrays"),
    ],
)
def test_what_is_no_gradient_of_every_parameter_fails(change, message):
    result = judged(change)
    assert result.status == "fails"
    assert re.search(message, result.message), result.message


def test_a_gradient_of_one_small_array_that_is_wrong_by_a_thousandth_fails():
    smallest = []

    def scaled(found):
        name = min(found, key=lambda n: (found[n].size, n))
        smallest.append(name)
        return {**found, name: 1.001 * found[name]}

    result = judged(scaled)
    assert result.status == "fails", (smallest, result.message)


def test_statistics_of_vectors_need_no_gradient():
    def trained(found):
        return {n: a for n, a in found.items() if not n.startswith("context_encoder.mean")}

    assert judged(trained, "flow_plus_plus/by_vector").status == "holds"
