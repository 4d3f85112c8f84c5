"""Searched specifications: correct ones hold, and counterexamples are shrunk and reproducible."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bijector_cases import FIRST_CASES
from conformance.adapter import NotSupported, ReferenceAdapter
from conformance.cases import BIJECTOR_CASES, RANDOM_CASES, random
from conformance.cases.random import Drawn, derived_case
from conformance.cases.source import NumpySource
from conformance.judging.diagnosis.reproducer import expression
from conformance.judging.judge import Judge
from conformance.laws import LAWS, search
from faulty import faulty_adapter, judge_faulty
from reference.bijectors import Affine, Chain, Flip

LAW = LAWS["random_specs"]


@pytest.mark.parametrize("name", RANDOM_CASES)
def test_the_reference_holds_whatever_is_drawn(name):
    result = Judge(ReferenceAdapter, examples=2).judge(RANDOM_CASES[name], LAW, "float64")
    assert result.status == "holds", result.message


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name, case in FIRST_CASES.items() if not case.context])
def test_a_random_case_derived_from_an_ordinary_one_holds(name, dtype):
    case = derived_case(FIRST_CASES[name])
    assert case.name == f"{name}/random"
    result = Judge(faulty_adapter()).judge(case, LAW, dtype)
    assert result.status == "holds", result.message


def test_a_random_case_derived_from_an_ordinary_one_finds_a_mistake():
    def wrong_beyond_two(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(x > 2, y + 1, y), log_det

    case = derived_case(FIRST_CASES["affine"])
    result = Judge(faulty_adapter(forward=wrong_beyond_two)).judge(case, LAW, "float64")
    assert result.status == "fails"
    assert "smallest counterexample found: forward" in result.message


def test_every_bijector_without_a_random_case_gets_one(monkeypatch):
    assert set(RANDOM_CASES) == {f"{name}/random" for name in FIRST_CASES}
    removed = {"sigmoid/random", "flip/random"}
    derived = {case.name for case in random.derived_cases(BIJECTOR_CASES.values())}
    assert not derived & {case.name for case in random.CASES}
    kept = [case for case in random.CASES if case.name not in removed]
    monkeypatch.setattr(random, "CASES", kept)
    cases = random.derived_cases(BIJECTOR_CASES.values())
    assert {case.name for case in cases} == derived | removed


def test_a_mistake_is_shrunk_to_its_simplest():
    def wrong_beyond_two(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(x > 2, y + 1, y), log_det

    result = judge_faulty("affine/random", "random_specs", forward=wrong_beyond_two)
    assert result.status == "fails"
    assert "smallest counterexample found: forward" in result.message
    assert result.point["x"].startswith("(1, 1, 1, 1) [")
    parameters = result.point["parameters"]
    assert all(parameters[name].endswith(" [0]") for name in ("log_scale", "shift"))


def test_the_reproducer_runs(capsys):
    def negated(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, -log_det - 1

    result = judge_faulty("act_norm/random", "random_specs", forward=negated)
    command, *script = result.reproducer.splitlines()
    assert command.startswith("python -m conformance") and "--seed 0" in command
    # The faulty adapter is a local class, which the script cannot import.
    at = next(i for i, line in enumerate(script) if line.startswith("from faulty import"))
    script[at] = "from conformance.adapter import ReferenceAdapter as Adapter"
    text = "\n".join(script)
    for line in script:
        if line.startswith("built = "):
            text = text.replace(line, 'built = Adapter(dtype="float64").build(spec)')
    exec(compile(text, "reproducer", "exec"), {})
    assert capsys.readouterr().out.count("want") == 2


def test_the_same_seed_finds_the_same():
    def wrong(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y * (1 + 1e-6 * (abs(y) > 5)), log_det

    results = [
        judge_faulty("mixture_logistic/random", "random_specs", forward=wrong) for _ in range(2)
    ]
    assert results[0].message == results[1].message and results[0].status == "fails"


def test_an_exception_is_a_counterexample():
    def raising(spec, x, context):
        raise RuntimeError("not for this shape")

    result = judge_faulty("flip/random", "random_specs", forward=raising)
    assert "RuntimeError: not for this shape" in result.message


def test_a_bijector_that_is_never_supported_is_unsupported():
    class Nothing(ReferenceAdapter):
        def build(self, spec):
            raise NotSupported("nothing yet")

    result = Judge(Nothing).judge(RANDOM_CASES["flip/random"], LAW, "float64")
    assert (result.status, result.message) == ("unsupported", "nothing yet")


FAULTS = {
    "rows for columns": (
        "act_norm/random",
        lambda spec, x: x.shape[2] * x.shape[3] != x.shape[2] ** 2 and spec.gain.shape[1] == 1,
    ),
    "fields of fewer axes": ("affine/random", lambda spec, x: spec.log_scale.ndim < 3),
    "several groups": ("invertible_conv/random", lambda spec, x: len(spec.weight) > 1),
    "large numbers": ("affine/random", lambda spec, x: np.abs(x).max() > 500.0),
    "three components": ("mixture_logistic/random", lambda spec, x: spec.logits.shape[-1] == 3),
    "two levels": ("data_logit/random", lambda spec, x: spec.levels == 2),
    "zeros": ("affine/random", lambda spec, x: bool((x == 0.0).any())),
}


def block_hypothesis(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("name", FAULTS)
def test_without_hypothesis_the_law_sees_the_same_faults(name, monkeypatch):
    block_hypothesis(monkeypatch)
    case, where = FAULTS[name]

    def wrong(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, log_det + where(spec, np.asarray(x))

    result = judge_faulty(case, "random_specs", forward=wrong)
    assert result.status == "fails" and "smallest counterexample found: log_det" in result.message
    assert "spec = " in result.reproducer


@pytest.mark.parametrize("name", ["affine/random", "mixture_logistic/random"])
def test_without_hypothesis_correct_maps_hold(name, monkeypatch):
    block_hypothesis(monkeypatch)
    result = judge_faulty(name, "random_specs")
    assert result.status == "holds" and result.compared > 300


def test_the_verdict_does_not_depend_on_hypothesis(monkeypatch):
    """The examples that decide are the same, and one that fails remains one."""
    with_it = judge_faulty("affine/random", "random_specs")
    monkeypatch.setattr(search, "_shrunk", lambda *args, **options: None)

    def wrong(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y + 1.0, log_det

    assert judge_faulty("affine/random", "random_specs", forward=wrong).status == "fails"
    block_hypothesis(monkeypatch)
    without = judge_faulty("affine/random", "random_specs")
    assert (with_it.ulps, with_it.compared) == (without.ulps, without.compared)


def test_a_failure_that_does_not_repeat_is_said_to_be_one(monkeypatch):
    block_hypothesis(monkeypatch)
    calls = []

    def check(drawn):
        calls.append(drawn)
        return "off" if len(calls) == 2 else None

    case = RANDOM_CASES["affine/random"]
    found = search.smallest_counterexample(case.make, check, examples=4, seed=0)
    assert found is not None and found[1] == "not on every call: off"


def test_shrinking_is_limited(monkeypatch):
    monkeypatch.setattr(search, "MAX_SHRINKING", 5)
    tried = []

    def check(drawn):
        tried.append(drawn)
        return "always wrong"

    def make(source):
        return Drawn(Affine(np.zeros(1), source.array((3,), -4.0, 4.0)), np.ones((1, 1, 1, 1)))

    found = search.smallest_counterexample(make, check, examples=20, seed=0)
    assert found is not None and found[1] == "always wrong"
    assert len(tried) <= 20 + 1 + 8  # drawn by NumPy, once more, and by Hypothesis


@pytest.mark.parametrize("name", RANDOM_CASES)
def test_both_sources_draw_valid_specifications(name):
    rng = np.random.default_rng(0)
    for _ in range(5):
        drawn = RANDOM_CASES[name].make(NumpySource(rng))
        y, log_det = drawn.spec.forward(drawn.x)
        assert np.isfinite(y).all() and log_det.shape == (len(drawn.x),)


def test_specifications_as_python():
    spec = Chain((Affine(np.array([0.5]), np.zeros((2, 1, 1))), Flip()))
    import reference.bijectors as names

    back = eval(expression(spec), {"np": np, **vars(names)})
    np.testing.assert_array_equal(back.bijectors[0].shift, spec.bijectors[0].shift)
    assert isinstance(back.bijectors[1], Flip)


def test_an_adapter_of_either_dtype_is_searched():
    case = RANDOM_CASES["coupling/random"]
    assert Judge(faulty_adapter()).judge(case, LAW, "float32").status == "holds"
