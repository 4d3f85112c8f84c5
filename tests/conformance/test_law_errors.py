"""An exception of a law's own code is an error of the suite, not the implementation's failure."""

from __future__ import annotations

import dataclasses
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from conformance.__main__ import main
from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.judging.precision import accept
from conformance.judging.xfails import Xfail, apply
from conformance.laws import LAWS
from conformance.reports.html import html_report
from conformance.reports.junit import junit
from conformance.reports.markdown import badge
from conformance.reports.result import Result, as_json, from_json
from conformance.reports.terminal import show
from conformance.reports.verdict import proven, verdict
from faulty import judge_faulty

HOLDS = Result("flip", "forward", "float64", "holds", 0.0, 16.0)
ERROR = Result(
    "flip",
    "inverse",
    "float64",
    "error",
    message="the law inverse itself raised KeyError: 'x'",
    traceback="Traceback (most recent call last):\n  in inverse\nKeyError: 'x'\n",
)


def broken_law(trial):
    """Law whose code has a fault."""
    yield "y", trial.got_forward[0].no_such_attribute


def raising(*arguments):
    raise KeyError("no such field")


def test_an_exception_of_the_law_is_an_error_with_its_traceback():
    law = dataclasses.replace(LAWS["forward"], check=broken_law)
    result = Judge(ReferenceAdapter).judge(CASES["flip"], law, "float64")
    assert result.status == "error" and result.hint == ""
    assert "typical, the law forward itself raised AttributeError: " in result.message
    assert "in broken_law" in result.traceback and "--laws forward" in result.reproducer


@pytest.mark.parametrize(
    ("name", "law", "field"),
    [
        ("flip", "inverse", "build"),
        ("flip", "contract", "typical"),
        ("flip/random", "random_specs", "make"),
        ("flip/random", "sizes", "sizes"),
        ("log_normal", "value", "build"),
        ("log_normal", "layer_batch", "typical"),
    ],
)
def test_an_exception_of_a_case_is_an_error(name, law, field):
    case = dataclasses.replace(CASES[name], **{field: raising})
    result = Judge(ReferenceAdapter).judge(case, LAWS[law], "float64")
    assert result.status == "error" and "in raising" in result.traceback


def test_a_failure_found_before_the_error_remains():
    def check(trial):
        yield from LAWS["forward"].check(trial)
        raise KeyError("no such field")

    law = dataclasses.replace(LAWS["forward"], check=check)
    assert Judge(adapter_of(plus_one)).judge(CASES["flip"], law, "float64").status == "fails"


def test_an_exception_of_the_implementation_is_its_failure():
    for law in ("forward", "determinism", "threads", "special_values"):
        result = judge_faulty("flip", law, forward=raising)
        assert result.status == "fails" and "KeyError" in result.message and not result.traceback


class WrongForm:
    """The reference of a specification, with forward's result passed through `change`."""

    def __init__(self, spec, change):
        self.spec, self.change = spec, change

    def forward(self, x, context=None):
        return self.change(*self.spec.forward(x, context))

    def inverse(self, y, context=None):
        return self.spec.inverse(y, context)

    def vjp(self, x, context, grad_y, grad_log_det):
        return self.change(grad_y, grad_log_det)


def adapter_of(change):
    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return WrongForm(spec, change)

    return Adapter


def plus_one(y, log_det):
    return y + 1.0, log_det


FORMS = {
    "text": lambda y, log_det: ("y", log_det),
    "objects": lambda y, log_det: (np.full(y.shape, None), log_det),
    "complex numbers": lambda y, log_det: (y + 1j, log_det),
    "too few columns": lambda y, log_det: (y[..., :0], log_det),
    "too few examples": lambda y, log_det: (y[:-1], log_det[:-1]),
    "no axes": lambda y, log_det: (y.sum(), log_det),
    "ragged lists": lambda y, log_det: ([[1.0], [1.0, 2.0]], log_det),
    "no log_det": lambda y, log_det: (y, None),
    "nothing": lambda y, log_det: None,
}


@pytest.mark.parametrize("form", FORMS)
def test_results_of_a_wrong_form_are_failures_under_every_law(form):
    judge, case = Judge(adapter_of(FORMS[form])), CASES["affine/line"]
    laws = [law for law in LAWS.values() if law.applies(case)]
    results = {law.name: judge.judge(case, law, "float64") for law in laws}
    assert not {r.law: r.traceback for r in results.values() if r.status == "error"}
    assert results["forward"].status == results["gradients"].status == "fails"


@pytest.mark.parametrize("form", ["objects", "too few columns", "nothing"])
def test_results_of_a_wrong_form_are_failures_of_layers(form):
    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return lambda z: (FORMS[form](z, z) or (None,))[0]

    judge, case = Judge(Adapter), CASES["log_normal"]
    laws = [law for law in LAWS.values() if law.applies(case)]
    results = [judge.judge(case, law, "float64") for law in laws]
    assert {result.status for result in results} == {"fails"}, results


def test_errors_are_reported_and_prove_nothing():
    results, text = [HOLDS, ERROR], io.StringIO()
    assert proven([HOLDS]) and not proven(results)
    assert verdict(results).startswith("1 with an error in the law itself; ")
    show(results, file=text)
    assert "ERROR IN THE LAW flip | inverse | float64: the law inverse" in text.getvalue()
    assert "KeyError: 'x'" in text.getvalue() and "1 error" in text.getvalue()
    about = {"adapter": "mine:A", "device": "cpu", "seed": 0, "examples": 1, "seconds": 1.0}
    page = html_report(results, about)
    assert 'class="error"' in page and "Traceback (most recent call last)" in page
    suite = ElementTree.fromstring(junit(results, name="mine")).find("testsuite")
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "0", "2")
    assert "Traceback" in suite.find(".//error").text
    assert "red" in badge(results)
    assert from_json(as_json([ERROR])[0]) == ERROR


def test_an_error_is_neither_accepted_nor_expected():
    assert accept(ERROR, 1e9) == ERROR
    assert apply(ERROR, [Xfail("*", "*", "*", "known")]) == ERROR


def test_the_exit_status_of_an_error_is_2(monkeypatch, capsys):
    law = dataclasses.replace(LAWS["forward"], check=broken_law)
    monkeypatch.setitem(LAWS, "forward", law)
    options = "--cases flip --laws forward inverse --dtype float64 --in-process".split()
    assert main([*options, "--adapter", "conformance.adapter:ReferenceAdapter"]) == 2
    assert "in broken_law" in capsys.readouterr().out
