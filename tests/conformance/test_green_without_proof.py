"""Implementations that prove nothing, or hide a failure, do not get exit status 0."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conformance.__main__ import main
from conformance.adapter import NotSupported, ReferenceAdapter
from conformance.cases import BIJECTOR_CASES, CASES
from conformance.judging import integrity
from conformance.judging.judge import Judge
from conformance.laws import LAWS, Law
from conformance.laws.trial import LeftOut
from conformance.numerics import compare as comparison
from conformance.numerics.compare import Comparison, compare
from conformance.reports.junit import junit
from conformance.reports.result import Result
from conformance.reports.verdict import proven, verdict
from faulty import FaultyBijector, faulty_adapter, judge_faulty
from reference.bijectors import Flip

AFFINE = BIJECTOR_CASES["affine/shared"]
FAR = 1e3
"""Tails of affine/shared are beyond this, typical inputs are not."""


def command(monkeypatch, adapter, *arguments):
    monkeypatch.setattr("conformance.judging.options.load", lambda name: adapter)
    chosen = arguments or ("--cases", "affine/shared", "flip", "--dtype", "float64")
    return main(["--in-process", *chosen])


class Nothing(ReferenceAdapter):
    def build(self, spec):
        raise NotSupported("nothing yet")


def only_typical(spec, x, context):
    """Add 1 to the log-det, and refuse the tails."""
    if np.abs(x).max() > FAR:
        raise NotSupported("far inputs")
    y, log_det = spec.forward(x, context)
    return y, log_det + 1.0


def test_an_adapter_that_supports_nothing_proves_nothing(monkeypatch, capsys):
    assert command(monkeypatch, Nothing) == 1
    shown = capsys.readouterr().out
    assert "\n0 holds" in shown
    assert "nothing was proven: no case could be judged" in shown.splitlines()[-1]


def test_a_law_of_the_reference_counts_for_nothing(monkeypatch, capsys):
    arguments = ("--cases", "flip", "--laws", "reference_jacobian", "--dtype", "float64")
    assert command(monkeypatch, ReferenceAdapter, *arguments) == 1
    assert "1 cells about the reference alone, not counted" in capsys.readouterr().out


def test_a_law_that_never_calls_the_implementation_does_not_hold():
    def check(trial):
        """Something of the specification."""
        yield "x", compare(trial.x, trial.x, trial.dtype)

    result = Judge(ReferenceAdapter).judge(AFFINE, Law("idle", check, 1, 1), "float64")
    assert (result.status, result.message) == (
        "left out",
        "the law has not called the implementation",
    )


def test_a_failure_remains_one_if_the_tails_are_not_supported(monkeypatch, capsys):
    result = judge_faulty("affine/shared", "log_det", forward=only_typical)
    assert result.status == "fails" and result.message.startswith("typical, log_det: ")
    assert command(monkeypatch, faulty_adapter(forward=only_typical)) == 1
    assert "FAILS affine/shared | log_det" in capsys.readouterr().out


@pytest.mark.parametrize("refusal", [NotSupported, LeftOut])
def test_a_failure_remains_one_if_the_other_direction_is_not_supported(refusal):
    def first_alone(spec, x, context):
        y, log_det = spec.forward(x, context)
        return (y + 1.0 if len(x) == 1 else y), log_det

    def refused(spec, y, context):
        raise refusal("no inverse")

    result = judge_faulty("affine/shared", "batch", forward=first_alone, inverse=refused)
    assert result.status == "fails" and "forward, alone" in result.message


def test_half_a_judgement_is_none_and_says_what_was_judged():
    def refused(spec, x, context):
        if np.abs(x).max() > FAR:
            raise NotSupported("far inputs")
        return spec.forward(x, context)

    result = judge_faulty("affine/shared", "forward", forward=refused)
    assert (result.status, result.compared) == ("unsupported", 36)
    assert result.message == "on tails: far inputs (holds elsewhere, for 36 numbers)"


def test_unsupported_examples_of_a_search_are_counted_by_reason():
    class Partial(ReferenceAdapter):
        def build(self, spec):
            if spec.gain.shape[1:] == (1, 1):
                raise NotSupported("a gain per channel")
            return spec

    result = Judge(Partial).judge(CASES["act_norm/random"], LAWS["random_specs"], "float64")
    assert result.status == "holds" and result.compared
    assert list(result.not_compared) == ["not supported: a gain per channel"]


@pytest.mark.parametrize("error", ["pytest.skip('no')", "sys.exit(0)", "raise BaseException('b')"])
def test_an_exception_of_any_kind_is_a_failure(error):
    def raising(spec, x, context):
        exec(f"import pytest, sys\n{error}")

    assert judge_faulty("flip", "forward", forward=raising).status == "fails"


def test_an_error_that_is_not_a_number_is_not_the_smaller_one():
    def check(trial):
        """NaN after a good comparison."""
        yield "y", compare(*trial.got_forward[:1], *trial.want_forward[:1], trial.dtype)
        yield "nan", Comparison(float("nan"), (), 0.0, 0.0, 1.0)

    result = Judge(ReferenceAdapter).judge(AFFINE, Law("nan", check, 1, 1), "float64")
    assert result.status == "fails"


def test_no_numbers_are_no_proof():
    empty = np.zeros((0, 3))
    assert compare(empty, empty, "float64").count == 0

    def check(trial):
        """Nothing at all."""
        yield "y", compare(trial.got_forward[0][:0], trial.want_forward[0][:0], trial.dtype)

    result = Judge(ReferenceAdapter).judge(AFFINE, Law("empty", check, 1, 1), "float64")
    assert result.status == "left out" and "nothing could be compared" in result.message


def test_known_failures_alone_prove_nothing(monkeypatch, tmp_path, capsys):
    known = tmp_path / "known.txt"
    known.write_text("*, *, *, to be done\n")
    adapter = faulty_adapter(forward=lambda spec, x, context: (x + np.nan, x[:, 0, 0, 0]))
    arguments = ("--cases", "flip", "--laws", "forward", "--dtype", "float64")
    assert command(monkeypatch, adapter, *arguments, "--xfails", str(known)) == 1
    assert "nothing was proven: 1 fail as expected" in capsys.readouterr().out


def test_one_array_for_all_calls_is_refused():
    kept = {}

    class Reused(FaultyBijector):
        def forward(self, x, context=None):
            y, log_det = self.spec.forward(x, context)
            memory = kept.setdefault(y.shape, np.empty_like(y))
            memory[...] = y
            return memory, log_det

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Reused(spec, {})

    judge = Judge(Adapter)
    assert judge.judge(AFFINE, LAWS["determinism"], "float64").status == "fails"
    # What an earlier law was given is not what the last call has left there.
    trial = judge.trial(AFFINE, "float64")
    before = trial.got_forward[0].copy()
    trial.forward(trial.x + 1.0)
    assert np.array_equal(trial.got_forward[0], before)


def test_views_of_the_input_are_accepted():
    def view(spec, x, context):
        return x[:, ::-1], np.zeros(len(x), x.dtype)

    for law in ("forward", "contract", "layout", "determinism", "batch"):
        assert judge_faulty("flip", law, forward=view).status == "holds"


REPLACEMENTS = {
    "a law": lambda patch: patch.setitem(LAWS, "log_det", LAWS["contract"]),
    "numpy": lambda patch: patch.setattr(np.linalg, "slogdet", np.linalg.det),
    "a comparison": lambda patch: patch.setattr(comparison, "ulps", comparison.unit_of),
    "the reference": lambda patch: patch.setattr(Flip, "forward", Flip.inverse),
}


@pytest.mark.parametrize("name", REPLACEMENTS)
@pytest.mark.parametrize("when", ["import", "build"])
def test_an_adapter_must_not_replace_its_judge(name, when, monkeypatch, capsys):
    class Replacing(ReferenceAdapter):
        def build(self, spec):
            if when == "build":
                REPLACEMENTS[name](monkeypatch)
            return spec

    def load(name_of_adapter):
        if when == "import":
            REPLACEMENTS[name](monkeypatch)
        return Replacing

    monkeypatch.setattr("conformance.judging.options.load", load)
    arguments = ["--in-process", "--cases", "flip", "--laws", "forward", "--dtype", "float64"]
    if when == "build":
        assert main(arguments) == 1
        assert "the adapter must not replace " in capsys.readouterr().out
        return
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "the adapter must not replace " in capsys.readouterr().err


def test_the_tolerance_of_a_law_is_part_of_the_judge(monkeypatch):
    before = integrity.snapshot()
    monkeypatch.setitem(vars(LAWS["log_det"]), "float64", 1e300)
    assert integrity.changes(before) == ["conformance.laws.LAWS['log_det'].float64"]


def test_an_import_that_exits_is_an_error(tmp_path):
    done = run_alone(tmp_path, "raise SystemExit(0)\n")
    assert done.returncode == 2
    assert "cannot be imported" in done.stderr and "SystemExit: 0" in done.stderr


def test_additions_are_no_replacements(monkeypatch):
    before = integrity.snapshot()
    monkeypatch.setattr(np, "a_name_of_an_old_version", np.abs, raising=False)
    assert integrity.changes(before) == []
    monkeypatch.setattr(np, "abs", np.negative)
    assert integrity.changes(before) == ["numpy.abs"]


def test_reports_agree_with_the_exit_status(monkeypatch, tmp_path):
    chosen = ("--cases", "flip", "--laws", "forward", "--dtype", "float64")
    files = ("--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "r.xml"))
    adapters = {
        "good": (ReferenceAdapter, 0),
        "nothing": (Nothing, 1),
        "wrong": (faulty_adapter(forward=lambda spec, x, context: (x, x[:, 0, 0, 0])), 1),
    }
    for adapter, status in adapters.values():
        assert command(monkeypatch, adapter, *chosen, *files) == status
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["proven"] is (status == 0)
        assert sum(report["counts"].values()) == len(report["cells"]) == 1
        suite = ElementTree.fromstring((tmp_path / "r.xml").read_text())[0]
        assert int(suite.get("failures")) == status == len(suite.findall("testcase/failure"))
        assert int(suite.get("tests")) == len(suite.findall("testcase"))


def test_junit_of_no_proof_has_a_failure():
    left_out = Result("flip", "forward", "float64", "left out", message="does not apply")
    suite = ElementTree.fromstring(junit([left_out], name="mine"))[0]
    assert suite.get("failures") == "1"
    assert "nothing was proven" in suite.find("testcase/failure").get("message")


def test_the_headline_counts_what_was_not_judged():
    holds = Result("flip", "forward", "float64", "holds", 0.0, 1.0, compared=1)
    results = [
        holds,
        dataclasses.replace(holds, law="batch", status="left out"),
        dataclasses.replace(holds, law="gradients", status="unsupported"),
    ]
    assert proven(results)
    assert verdict(results) == "all cells hold (1); 1 not supported; 1 left out"


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf", "soon"])
def test_a_time_limit_is_a_number(seconds, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--timeout", seconds])
    assert stopped.value.code == 2
    assert f"must be a number, at least 0, got {seconds}" in capsys.readouterr().err


def run_alone(folder, text):
    """Judge the adapter of a file in a process of its own."""
    (folder / "mine.py").write_text(text)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    arguments = "--adapter mine:Adapter --cases flip --laws log_det forward --dtype float64"
    return subprocess.run(
        [sys.executable, "-m", "conformance", *arguments.split(), "--in-process"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
