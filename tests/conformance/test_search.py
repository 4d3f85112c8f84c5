"""Searched specifications: correct ones hold, wrong ones are shrunk and can be pasted."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.adapter import ReferenceAdapter
from conformance.cases import RANDOM_CASES
from conformance.cases.random import Drawn
from conformance.cases.source import NumpySource
from conformance.judging.diagnosis.reproducer import expression
from conformance.judging.judge import Judge
from conformance.laws import LAWS, search
from conformance.laws.trial import LeftOut
from faulty import faulty_adapter, judge_faulty
from reference.bijectors import Affine, Chain, Flip

LAW = LAWS["random_specs"]


@pytest.mark.parametrize("name", RANDOM_CASES)
def test_the_reference_holds_whatever_is_drawn(name):
    cell = Judge(ReferenceAdapter, examples=2).judge(RANDOM_CASES[name], LAW, "float64")
    assert cell.status == "holds", cell.message


def test_a_mistake_is_shrunk_to_its_simplest():
    def wrong_beyond_two(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(x > 2, y + 1, y), log_det

    cell = judge_faulty("affine/random", "random_specs", forward=wrong_beyond_two)
    assert cell.status == "fails"
    assert "smallest counterexample found: forward" in cell.message
    assert cell.point["x"].startswith("(1, 1, 1, 1) [")
    parameters = cell.point["parameters"]
    assert all(parameters[name].endswith(" [0]") for name in ("log_scale", "shift"))


def test_the_reproducer_runs(capsys):
    def negated(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, -log_det - 1

    cell = judge_faulty("act_norm/random", "random_specs", forward=negated)
    command, *script = cell.reproducer.splitlines()
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

    cells = [
        judge_faulty("mixture_logistic/random", "random_specs", forward=wrong) for _ in range(2)
    ]
    assert cells[0].message == cells[1].message and cells[0].status == "fails"


def test_what_raises_is_a_counterexample():
    def raising(spec, x, context):
        raise RuntimeError("not for this shape")

    cell = judge_faulty("flip/random", "random_specs", forward=raising)
    assert "RuntimeError: not for this shape" in cell.message


def test_what_is_not_supported_at_all_is_unsupported():
    from conformance.adapter import NotSupported

    class Nothing(ReferenceAdapter):
        def build(self, spec):
            raise NotSupported("nothing yet")

    cell = Judge(Nothing).judge(RANDOM_CASES["flip/random"], LAW, "float64")
    assert (cell.status, cell.message) == ("unsupported", "nothing yet")


def test_without_hypothesis_the_law_is_left_out(monkeypatch):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LeftOut, match="needs the package hypothesis"):
        search.smallest_counterexample(lambda source: None, lambda drawn: None, examples=1, seed=0)


def test_shrinking_ends_in_time(monkeypatch):
    monkeypatch.setattr(search, "MAX_SHRINKING", 5)
    tried = []

    def judge(drawn):
        tried.append(drawn)
        return "always wrong"

    def make(source):
        return Drawn(Affine(np.zeros(1), source.array((3,), -4.0, 4.0)), np.ones((1, 1, 1, 1)))

    found = search.smallest_counterexample(make, judge, examples=20, seed=0)
    assert found is not None and found[1] == "always wrong"
    assert len(tried) <= 8


@pytest.mark.parametrize("name", RANDOM_CASES)
def test_both_sources_draw_what_can_be_built(name):
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
