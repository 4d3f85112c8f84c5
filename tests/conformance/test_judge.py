"""Implementations with errors, and command lines with mistakes."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest

from conformance.__main__ import main
from conformance.adapter import NotSupported, ReferenceAdapter
from conformance.cases import BIJECTOR_CASES, CASES
from conformance.judging.judge import ILL_CONDITIONED, Judge
from conformance.judging.plan import plan
from conformance.laws import LAWS
from conformance.numerics.compare import Unresolved, compare
from conformance.reports.terminal import failure, show, summary
from conformance.reports.verdict import proven


class Faulty:
    """The reference, with forward's result passed through `fault(x, y, log_det)`."""

    def __init__(self, spec):
        self.spec = spec

    def forward(self, x, context=None):
        y, log_det = self.spec.forward(x, context)
        return type(self).fault(x, y, log_det)

    def inverse(self, y, context=None):
        return self.spec.inverse(y, context)


def adapter_of(fault):
    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return type("Built", (Faulty,), {"fault": staticmethod(fault)})(spec)

    return Adapter


def raising(x, y, log_det):
    raise RuntimeError("out of memory")


def writing(x, y, log_det):
    x[...] = 0.0
    return y, log_det


FAULTS = {
    "raises": (raising, "RuntimeError: out of memory"),
    "wrong shape": (lambda x, y, log_det: (y[:, :1], log_det), "shape"),
    "no batch axis": (lambda x, y, log_det: (y, log_det.sum()), "log_det of forward has shape ()"),
    "a third part": (lambda x, y, log_det: (y, log_det, None), "not (array, log_det)"),
    "no log_det": (lambda x, y, log_det: y, "returned ndarray"),
    "nan": (lambda x, y, log_det: (y * np.nan, log_det), "got nan"),
    "float32": (lambda x, y, log_det: (y.astype(np.float32), log_det), "is float32, not float64"),
    "written to": (writing, "has written to its input"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_implementation_fails_and_the_run_continues(name):
    fault, message = FAULTS[name]
    judge = Judge(adapter_of(fault))
    results = [judge.judge(*one) for one in plan(["affine/shared", "flip"], dtypes=["float64"])]
    bijectors = [BIJECTOR_CASES[name] for name in ("affine/shared", "flip")]
    assert len(results) == sum(law.applies(case) for law in LAWS.values() for case in bijectors)
    failing = [result for result in results if result.status == "fails"]
    assert {result.case for result in failing} == {"affine/shared", "flip"}
    assert any(message in result.message for result in failing), [c.message for c in failing]
    assert all(failure(result).startswith("FAILS ") for result in failing)


def test_the_reference_passes_its_own_laws():
    judge = Judge(ReferenceAdapter)
    quick = ["affine/*", "act_norm/*", "data_logit/*", "coupling/affine", "squeeze", "conv2d/*"]
    results = [judge.judge(*one) for one in plan(quick, dtypes=["float64"])]
    assert [result for result in results if result.status == "fails"] == []
    assert {c.law for c in results if c.status == "unsupported"} == {
        "assignment",
        "gradients",
        "inverse_gradients",
        "log_prob_gradients",
    }
    assert {c.law for c in results if c.status == "left out"} >= {"batch"}


def test_an_unsupported_case_is_reported_and_never_counted_as_holding():
    class Partial(ReferenceAdapter):
        def build(self, spec):
            raise NotSupported(f"no {type(spec).__name__} yet")

    result = Judge(Partial).judge(BIJECTOR_CASES["flip"], LAWS["forward"], "float64")
    assert (result.status, result.message) == ("unsupported", "no Flip yet")
    assert "not supported 1 times: no Flip yet" in summary([result])
    assert "nothing was proven" in summary([result])
    assert not proven([result])


def test_a_law_that_does_not_apply_is_left_out():
    result = Judge(ReferenceAdapter).judge(
        BIJECTOR_CASES["affine/per_example"], LAWS["batch"], "float64"
    )
    assert (result.status, result.message) == (
        "left out",
        "the case's parameters differ by example",
    )


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    results = [
        Judge(ReferenceAdapter, seed=seed).judge(
            BIJECTOR_CASES["invertible_conv/joint"], LAWS["jacobian"], "float64"
        )
        for seed in (0, 0, 1)
    ]
    assert results[0].ulps == results[1].ulps
    assert results[0].ulps != results[2].ulps


@pytest.mark.parametrize("rich", [True, False])
def test_the_matrix_shows_errors_and_marks_failures(rich):
    if rich:
        pytest.importorskip("rich")
    judge = Judge(adapter_of(lambda x, y, log_det: (y + 1.0, log_det)))
    results = [judge.judge(*one) for one in plan(["flip"], ["forward", "log_det"], ["float64"])]
    text = io.StringIO()
    show(results, file=text, rich=rich)
    assert "flip" in text.getvalue() and "!" in text.getvalue()
    assert "FAILS flip | forward | float64" in text.getvalue()
    assert (
        "1 holds, 0 imprecise, 1 fails, 0 expected, 0 unsupported, 0 left out" in text.getvalue()
    )


def run(*arguments):
    return main([*arguments, "--adapter", "conformance.adapter:ReferenceAdapter"])


def test_the_command_line_returns_0_when_all_holds(capsys, tmp_path):
    file = tmp_path / "results.json"
    assert run("--cases", "affine/*", "--laws", "forward", "log_det", "--json", str(file)) == 0
    assert "affine/shared" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert {result["dtype"] for result in written["cells"]} == {"float64", "float32"}
    assert written["adapter"] == "conformance.adapter:ReferenceAdapter"


def test_the_command_line_returns_1_when_something_fails(capsys, monkeypatch):
    faulty = adapter_of(lambda x, y, log_det: (y, -log_det))
    monkeypatch.setattr("conformance.judging.options.load", lambda name: faulty)
    assert main(["--cases", "affine/shared", "--laws", "log_det", "--in-process"]) == 1
    shown = capsys.readouterr().out
    assert "FAILS affine/shared | log_det" in shown
    assert "probable cause: log_det of forward has the opposite sign" in shown
    assert "--cases affine/shared --laws log_det --dtype float64 --seed 0" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "no_such_case"], "no case 'no_such_case'; known are: act_norm/activation"),
        (["--laws", "logdet"], "no law 'logdet'; did you mean log_det?; known are: forward"),
        (["--bijectors", "Squeze"], "no bijector 'squeze'; did you mean squeeze?"),
        (["--cases", "squeze"], "no case 'squeze'; did you mean squeeze?"),
        (["--law", "forward"], "unrecognized arguments: --law forward; did you mean --laws?"),
        (["--laws", "gravity"], "no law 'gravity'; known are: forward, log_det"),
        (["--dtype", "float16"], "no dtype 'float16'; known are: float64, float32"),
        (["--adapter", "nowhere:Adapter"], "No module 'nowhere'"),
        (["--case", "flip"], "unrecognized arguments"),
        (["--bijectors", "Spline"], "no bijector 'spline'; known are: act_norm, affine"),
        (["--examples", "0"], "positive integer, got 0"),
        (
            ["--cases", "flip", "--laws", "value"],
            "none of these laws applies to any of these cases",
        ),
        (["--xfails", "nowhere.toml"], "cannot read the known failures nowhere.toml"),
        (["--cases", "flip", "--html", "no/such/place.html"], "no directory for no/such"),
    ],
)
def test_the_command_line_refuses_unknown_names(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_bijectors_are_chosen_by_class():
    classes = {
        case.name.split("/")[0] for case, _, _ in plan(bijectors=["Affine", "InvertibleConvLU"])
    }
    assert classes == {"affine", "invertible_conv_lu"}


def test_examples_are_further_draws():
    case, law = BIJECTOR_CASES["invertible_conv/joint"], LAWS["forward"]
    seeds = [Judge(ReferenceAdapter, seed=seed) for seed in range(3)]
    several = Judge(ReferenceAdapter, examples=3)
    drawn = [trial.seed for trial in several.trials(case, "float64")]
    assert drawn == [0, 0, 1, 1, 2, 2]
    first = [judge.trial(case, "float64", seed=judge.seed).x for judge in seeds]
    assert len({x.tobytes() for x in first}) == 3
    assert several.judge(case, law, "float64").status == "holds"


def test_a_failure_of_a_later_draw_is_reproduced_by_its_own_seed():
    case = BIJECTOR_CASES["affine/shared"]
    bad = Judge(ReferenceAdapter).trial(case, "float64", seed=2).x

    def wrong(x, y, log_det):
        return (y + 1.0 if np.array_equal(x, bad) else y), log_det

    result = Judge(adapter_of(wrong), examples=4).judge(case, LAWS["forward"], "float64")
    assert result.status == "fails" and result.reproducer.endswith("--seed 2")
    assert result.point["seed"] == 2


def test_every_law_states_its_meaning(capsys):
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(law.meaning in shown for law in LAWS.values())
    assert all(law.meaning for law in LAWS.values())


def test_every_law_that_a_case_leaves_out_exists_and_has_a_reason():
    for case in BIJECTOR_CASES.values():
        assert set(case.without) <= set(LAWS) and all(case.without.values())
        assert set(case.tolerances) <= set(LAWS)


def test_a_device_that_the_adapter_refuses_ends_with_status_2(capsys):
    arguments = ["--adapter", "conformance.adapter:ReferenceAdapter", "--device", "cuda"]
    for way in (["--in-process"], ["--jobs", "1"]):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--cases", "flip", *way])
        assert stopped.value.code == 2
        assert "computes on the cpu, not on cuda" in capsys.readouterr().err


def test_a_law_that_compares_nothing_does_not_hold():
    law = dataclasses.replace(LAWS["forward"], check=lambda trial: iter(()))
    result = Judge(ReferenceAdapter).judge(CASES["flip"], law, "float64")
    assert (result.status, result.compared) == ("left out", 0)
    assert "nothing could be compared" in result.message
    assert not proven([result])


def test_values_that_could_not_be_compared_are_counted_by_reason():
    def check(trial):
        assert trial.got_forward is not None
        yield "y", Unresolved(3, "too steep")
        yield "y", compare(np.zeros(2), np.zeros(2), "float64", unit=np.array([1e-16, np.inf]))

    law = dataclasses.replace(LAWS["forward"], check=check)
    result = Judge(ReferenceAdapter).judge(CASES["flip"], law, "float64")
    # One value on typical inputs, one in the tails.
    assert (result.status, result.compared) == ("holds", 2)
    assert result.not_compared == {"too steep": 6, ILL_CONDITIONED: 2}
    assert "6 not compared, in 1 cells: too steep" in summary([result])


def test_every_cell_of_a_small_run_has_compared_something():
    judge = Judge(ReferenceAdapter)
    results = [
        judge.judge(*one) for one in plan(["affine/shared", "sigmoid/line"], ["*"], ["float64"])
    ]
    assert all(result.compared > 0 for result in results if result.status == "holds")


def test_a_diagnosis_does_not_call_the_judged_object():
    """Its experiments would change what a cache in the object holds, and so later results."""
    calls = []

    class Counting(ReferenceAdapter):
        def build(self, spec):
            built = type("Built", (Faulty,), {"fault": staticmethod(lambda x, y, d: (y + 1.0, d))})

            def inverse(self, y, context=None):
                calls.append(id(self))
                return spec.inverse(y, context)

            built.inverse = inverse
            return built(spec)

    judge, case = Judge(Counting), BIJECTOR_CASES["affine/shared"]
    judged = {id(trial.built) for trial in judge.trials(case, "float64")}
    assert judge.judge(case, LAWS["forward"], "float64").status == "fails"
    assert not judged & set(calls)
