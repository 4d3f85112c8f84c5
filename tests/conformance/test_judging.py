"""Implementations that hang, crash and leave: a clear line each, and the run goes on."""

from __future__ import annotations

import textwrap
import time

import pytest

from conformance.adapter import ReferenceAdapter
from conformance.cases import BIJECTOR_CASES
from conformance.judging.crash_log import CrashLog
from conformance.judging.judge import Judge
from conformance.judging.options import Options
from conformance.judging.plan import plan
from conformance.judging.result import Result
from conformance.judging.run import judge_in_process, judge_in_workers
from conformance.judging.time_limit import TimeLimitExceeded, time_limit
from conformance.laws import LAWS

ADAPTERS = """
    import ctypes, os, sys, time
    from conformance.adapter import ReferenceAdapter

    class Spoiled:
        def __init__(self, spec, spoil):
            self.spec, self.spoil = spec, spoil
        def forward(self, x, context=None):
            if type(self.spec).__name__ == "Affine":
                self.spoil()
            return self.spec.forward(x, context)
        def inverse(self, y, context=None):
            return self.spec.inverse(y, context)

    def adapter(spoil):
        class Adapter(ReferenceAdapter):
            def build(self, spec):
                return Spoiled(spec, spoil)
        return Adapter

    def swallow():
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass

    Looping = adapter(lambda: [None for _ in iter(int, 1)])
    Swallowing = adapter(swallow)
    Crashing = adapter(lambda: ctypes.string_at(0))
    Leaving = adapter(lambda: os._exit(3))
    Exiting = adapter(lambda: sys.exit(3))
    Printing = adapter(lambda: print("a line that no report should stumble over"))
"""


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    (tmp_path / "some_adapters.py").write_text(textwrap.dedent(ADAPTERS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("conformance.judging.worker.GRACE", 1.0)


PLAN = list(plan(["affine/shared", "flip"], ["forward", "inverse"], ["float64"]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Looping", "no answer within 0.5 seconds"),
        ("Swallowing", "no answer within 1.5 seconds: the process had to be killed"),
        ("Crashing", "the process ended by SIGSEGV after"),
        ("Leaving", "the process ended with status 3 after"),
        ("Exiting", "SystemExit: 3"),
    ],
)
def test_a_lost_implementation_gets_a_clear_line_and_the_run_goes_on(adapters, name, message):
    options = Options(f"some_adapters:{name}", timeout=0.5)
    cells = list(judge_in_workers(options, PLAN))
    assert [cell.case for cell in cells] == ["affine/shared"] * 2 + ["flip"] * 2
    assert cells[0].status == "fails" and message in cells[0].message
    if name != "Exiting":
        assert cells[1].message == "not tried: it was lost under forward"
    assert [cell.status for cell in cells[2:]] == ["holds", "holds"]


def test_what_it_prints_does_not_disturb(adapters):
    cells = list(judge_in_workers(Options("some_adapters:Printing"), PLAN))
    assert [cell.status for cell in cells] == ["holds"] * 4


def test_a_worker_finds_what_this_process_finds():
    options = Options("conformance.adapter:ReferenceAdapter")
    some = list(plan(["affine/*"], ["forward", "jacobian", "gradients"], ["float64"]))
    pairs = zip(judge_in_workers(options, some), judge_in_process(options, some), strict=True)
    assert all(
        (a.case, a.law, a.status, a.ulps, a.message)
        == (b.case, b.law, b.status, b.ulps, b.message)
        for a, b in pairs
    )


@pytest.mark.parametrize("name", ["Printing", "Leaving"])
def test_the_report_is_the_same_for_any_number_of_workers(adapters, name):
    """Three lost cases and no answer included."""
    some = list(plan(["affine/*", "flip", "squeeze"], ["forward", "inverse", "contract"]))
    reports = [
        [
            (
                cell.case,
                cell.law,
                cell.dtype,
                cell.status,
                cell.ulps,
                cell.message.split(" after")[0],
            )
            for cell in judge_in_workers(Options(f"some_adapters:{name}"), some, jobs)
        ]
        for jobs in (1, 3)
    ]
    assert reports[0] == reports[1]


def test_workers_are_ended_with_the_run(adapters):
    cells = judge_in_workers(
        Options("some_adapters:Looping", timeout=30.0), PLAN[2:] + PLAN[:2], 2
    )
    assert next(cells).status == "holds"
    start = time.perf_counter()
    cells.close()
    assert time.perf_counter() - start < 5


def test_an_adapter_that_is_not_there_is_refused_by_the_worker():
    with pytest.raises(ValueError, match="No module 'nowhere'"):
        list(judge_in_workers(Options("nowhere:Adapter"), PLAN))


def test_after_three_lost_cases_and_no_answer_the_others_are_not_tried():
    log, chosen = CrashLog(), list(plan(["affine/*"], ["forward"], ["float64"]))
    for case, law, dtype in chosen[:3]:
        assert log.not_tried((case, law, dtype)) is None
        log.record(
            Result(case.name, law.name, dtype, "fails", message="no answer within 1 seconds")
        )
    message = log.not_tried(chosen[3]).message
    assert message.startswith("not tried: the first 3 cases were all lost (affine/shared, ")


@pytest.mark.parametrize("status", ["holds", "fails"])
def test_whoever_has_answered_once_is_asked_to_the_end(status):
    log, chosen = CrashLog(), list(plan(["affine/*", "act_norm/*"], ["forward"], ["float64"]))
    case, law, dtype = chosen[0]
    log.record(Result(case.name, law.name, dtype, status, message="1e6 ulps"))
    for case, law, dtype in chosen[1:6]:
        assert log.not_tried((case, law, dtype)) is None
        log.record(Result(case.name, law.name, dtype, "fails", message="the process ended"))
    assert log.not_tried(chosen[6]) is None


def test_the_limit_reaches_through_an_except_of_everything_but_itself():
    start = time.perf_counter()
    with pytest.raises(TimeLimitExceeded), time_limit(0.2):
        while True:
            try:
                time.sleep(10)
            except Exception:
                pass
    assert time.perf_counter() - start < 2


def test_no_limit_is_no_alarm():
    with time_limit(None):
        time.sleep(0.01)
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # it must not ring after the block


def test_a_judge_in_this_process_ends_what_hangs_in_python():
    class Built:
        def __init__(self, spec):
            self.inverse = spec.inverse

        def forward(self, x, context=None):
            while True:
                time.sleep(0.01)

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Built(spec)

    judge = Judge(Adapter, timeout=0.3)
    flip = BIJECTOR_CASES["flip"]
    cell = judge.judge(flip, LAWS["forward"], "float64")
    assert (cell.status, cell.message) == ("fails", "no answer within 0.3 seconds")
    assert "endless loop" in cell.hint
    assert judge.judge(flip, LAWS["inverse"], "float64").status == "holds"
