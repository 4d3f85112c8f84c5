"""A right formula with rounding errors is imprecise; a wrong one fails."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest

from conformance.__main__ import main
from conformance.adapter import NotSupported
from conformance.cases import CASES
from conformance.judging import xfails
from conformance.judging.judge import Judge
from conformance.judging.precision import accept, is_rounding
from conformance.laws import LAWS
from conformance.reports.html import html_report
from conformance.reports.junit import junit
from conformance.reports.result import Result
from conformance.reports.terminal import failure, summary
from conformance.reports.verdict import proven, verdict
from faulty import faulty_adapter, judge_faulty

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
IMPRECISE = Result("flip", "forward", "float64", "imprecise", 114.0, 16.0, "right formula, loses")
HOLDS = Result("flip", "forward", "float64", "holds", 1.0, 16.0, compared=1)


def rounded_badly(spec, x, context):
    """Lose six bits, at either dtype."""
    y, log_det = spec.forward(x, context)
    lost = 64 * np.finfo(x.dtype).eps * np.maximum(1, np.abs(y)) * np.sin(1e3 * y)
    return y + lost, log_det


def off_by(error):
    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y + error * np.maximum(1, np.abs(y)), log_det

    return forward


@DTYPES
def test_rounding_is_imprecise(dtype):
    result = judge_faulty("affine/shared", "forward", dtype, forward=rounded_badly)
    assert result.status == "imprecise" and 16 < result.ulps <= 66
    assert result.message.startswith("right formula, loses 6.0 bits: ")
    assert not result.hint and "--laws forward" in result.reproducer


@DTYPES
@pytest.mark.parametrize("error", [1e-5, 1e-10, 3e-12])
def test_a_wrong_formula_fails_wherever_it_is_seen(dtype, error):
    """3e-12 are 13,500 ulps in float64, and less than one in float32."""
    result = judge_faulty("affine/shared", "forward", dtype, forward=off_by(error))
    assert result.status == ("fails" if error > 1e-6 or dtype == "float64" else "holds")


@DTYPES
def test_an_adapter_of_one_dtype_is_imprecise_by_a_few_bits_only(dtype):
    class One(faulty_adapter(forward=rounded_badly)):
        def __init__(self, dtype=dtype, device="cpu"):
            if dtype != only:
                raise NotSupported(f"no {dtype}")

    only = dtype
    case, law = CASES["affine/shared"], LAWS["forward"]
    assert Judge(One).judge(case, law, dtype).status == "imprecise"
    assert not is_rounding(300.0, dtype, None, other_holds=False)


@DTYPES
def test_a_searched_specification_is_imprecise_by_its_worst_example(dtype):
    """The smallest counterexample alone has always a small error."""
    result = judge_faulty("affine/random", "random_specs", dtype, forward=rounded_badly)
    assert result.status == "imprecise" and "smallest counterexample" in result.message
    assert failure(result).splitlines()[0].count("(allowed ") == 1
    assert result.allowed >= 16 and 16 < result.ulps < 70

    def wrong_for_large(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y * (1 + 1e-3 * (np.abs(y) > 100)) + 0 * x, log_det

    result = judge_faulty("affine/random", "random_specs", dtype, forward=wrong_for_large)
    assert result.status == "fails"


@DTYPES
def test_a_searched_specification_reports_the_error_that_is_too_large(dtype):
    """Not the larger one of another law, which allows more."""

    def rounded(spec, x, context):
        y, log_det = spec.forward(x, context)
        eps = np.finfo(x.dtype).eps
        return y + 20 * eps * np.maximum(1, np.abs(y)), log_det + 40 * eps * np.maximum(
            1, np.abs(log_det)
        )

    result = judge_faulty("affine/random", "random_specs", dtype, forward=rounded)
    assert result.status == "imprecise" and result.allowed == 16 < result.ulps < 23


@pytest.mark.parametrize("law", ["determinism", "contract", "onto", "sampling"])
def test_laws_without_rounding_have_no_imprecise_results(law):
    assert not LAWS[law].rounding


def command(monkeypatch, adapter, *arguments):
    monkeypatch.setattr("conformance.judging.options.load", lambda name: adapter)
    chosen = ("--cases", "affine/shared", "--laws", "forward", "log_det", "--dtype", "float64")
    return main(["--in-process", *chosen, *arguments])


def test_imprecise_is_exit_1_unless_allowed(monkeypatch, capsys):
    adapter = faulty_adapter(forward=rounded_badly)
    assert command(monkeypatch, adapter) == 1
    shown = capsys.readouterr().out
    assert "IMPRECISE affine/shared | forward | float64: right formula, loses" in shown
    assert "1 holds, 1 imprecise, 0 fails" in shown and "* imprecise" in shown
    assert "--tolerance 65 accepts them" in shown
    assert command(monkeypatch, adapter, "--tolerance", "63") == 1
    capsys.readouterr()
    assert command(monkeypatch, adapter, "--tolerance", "65") == 0
    shown = capsys.readouterr().out
    assert "1 of 2 cells hold, 1 imprecise (accepted)" in shown.splitlines()[-1]


def test_the_tolerance_does_not_accept_a_wrong_formula(monkeypatch):
    assert command(monkeypatch, faulty_adapter(forward=off_by(1e-9)), "--tolerance", "1e9") == 1


@pytest.mark.parametrize(
    ("result", "tolerance", "accepted"),
    [
        (IMPRECISE, 114.0, True),
        (IMPRECISE, 113.0, False),
        (dataclasses.replace(IMPRECISE, status="fails"), 1e9, False),
        (dataclasses.replace(IMPRECISE, ulps=None), 1e9, False),
        (HOLDS, 1e9, False),
    ],
)
def test_what_is_accepted(result, tolerance, accepted):
    assert accept(result, tolerance).accepted is accepted


def test_the_verdict_of_imprecise_results():
    assert not proven([HOLDS, IMPRECISE])
    assert proven([HOLDS, accept(IMPRECISE, 200.0)])
    assert not proven([accept(IMPRECISE, 200.0)])
    assert verdict([HOLDS, IMPRECISE]) == "1 of 2 cells hold, 1 imprecise"


def test_reports_of_imprecise_results():
    assert failure(IMPRECISE).startswith("IMPRECISE flip | forward | float64: right formula")
    assert "imprecise 1 times, at worst 114 ulps or 6.8 bits" in summary([HOLDS, IMPRECISE])
    about = {"adapter": "mine", "device": "cpu", "seed": 0, "examples": 1}
    assert '<td class="imprecise"' in html_report([HOLDS, IMPRECISE], about)
    suite = ElementTree.fromstring(junit([HOLDS, IMPRECISE], name="mine"))[0]
    assert suite.find("testcase/failure").get("type") == "imprecise"
    suite = ElementTree.fromstring(junit([HOLDS, accept(IMPRECISE, 200.0)], name="mine"))[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "0")


def test_a_known_imprecise_result_is_expected(tmp_path):
    file = tmp_path / "known.txt"
    file.write_text("flip, forward, *, six bits lost\n")
    known = xfails.read(file, cases=CASES, laws=LAWS)
    assert xfails.apply(IMPRECISE, known).status == "expected"
