"""Implementations that hang, crash or exit get a clear result, and the run continues."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from typing import get_args

import pytest

from conformance.__main__ import main
from conformance.adapter import ReferenceAdapter
from conformance.cases import BIJECTOR_CASES
from conformance.judging.crash_log import CrashLog
from conformance.judging.judge import Judge
from conformance.judging.options import Options
from conformance.judging.plan import plan
from conformance.judging.run import judge_in_process, judge_in_workers
from conformance.judging.time_limit import TimeLimitExceeded, time_limit
from conformance.laws import LAWS
from conformance.reports.result import Result
from flowpp.kernels.backend import Kernel

ADAPTERS = """
    import ctypes, os, subprocess, sys, time
    from conformance.adapter import ReferenceAdapter

    class Faulty:
        def __init__(self, spec, fault):
            self.spec, self.fault = spec, fault
        def forward(self, x, context=None):
            if type(self.spec).__name__ == "Affine":
                self.fault()
            return self.spec.forward(x, context)
        def inverse(self, y, context=None):
            return self.spec.inverse(y, context)

    def adapter(fault):
        class Adapter(ReferenceAdapter):
            def build(self, spec):
                return Faulty(spec, fault)
        return Adapter

    def swallow():
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass

    def hang_in_c():
        mutex = ctypes.create_string_buffer(64)  # locked twice: a deadlock that no signal ends
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(mutex)

    def start_a_child():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        with open(os.environ["CHILD"], "w") as file:
            file.write(str(child.pid))
        os.abort()

    Looping = adapter(lambda: [None for _ in iter(int, 1)])
    Swallowing = adapter(swallow)
    HangingInC = adapter(hang_in_c)
    Crashing = adapter(lambda: ctypes.string_at(0))
    Leaving = adapter(lambda: os._exit(3))
    Exiting = adapter(lambda: sys.exit(3))
    Printing = adapter(lambda: os.write(1, b"printed by the adapter"))
    Parent = adapter(start_a_child)

    class Compiling(ReferenceAdapter):
        compiled = False
        def build(self, spec):
            if not Compiling.compiled:
                time.sleep(2.0)
            Compiling.compiled = True
            return spec

    class Prepared(Compiling):
        def prepare(self):
            self.build(None)
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
        ("HangingInC", "no answer within 1.5 seconds: the process had to be killed"),
        ("Crashing", "the process ended by SIGSEGV after"),
        ("Leaving", "the process ended with status 3 after"),
        ("Exiting", "SystemExit: 3"),
    ],
)
def test_a_lost_implementation_gets_a_clear_result_and_the_run_continues(adapters, name, message):
    options = Options(f"some_adapters:{name}", timeout=0.5)
    results = list(judge_in_workers(options, PLAN))
    assert [result.case for result in results] == ["affine/shared"] * 2 + ["flip"] * 2
    assert results[0].status == "fails" and message in results[0].message
    if name != "Exiting":
        assert results[1].message == "not tried: it was lost under forward"
    assert [result.status for result in results[2:]] == ["holds", "holds"]


def test_prints_of_an_adapter_do_not_enter_the_report(adapters, capfd):
    arguments = ["--adapter", "some_adapters:Printing", "--cases", "affine/shared", "--jobs", "1"]
    assert main([*arguments, "--laws", "forward", "--dtype", "float64"]) == 0
    shown = capfd.readouterr()
    assert "1 holds" in shown.out and "printed by" not in shown.out
    assert "printed by" in shown.err


def test_children_of_a_lost_process_are_killed(adapters, tmp_path, monkeypatch):
    monkeypatch.setenv("CHILD", str(tmp_path / "pid"))
    results = list(judge_in_workers(Options("some_adapters:Parent"), PLAN[:1]))
    assert "the process ended by SIGABRT" in results[0].message
    assert _ends(int((tmp_path / "pid").read_text()))


def _ends(pid: int) -> bool:
    """Return whether a process ends within 5 seconds; a zombie has ended."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("name", "status"), [("Compiling", "fails"), ("Prepared", "holds")])
@pytest.mark.parametrize("judge", [judge_in_process, judge_in_workers])
def test_preparation_does_not_count_against_the_time_limit(adapters, name, status, judge):
    import some_adapters

    some_adapters.Compiling.compiled = False
    options = Options(f"some_adapters:{name}", timeout=1.0, dtypes=["float64"])
    assert [result.status for result in judge(options, PLAN[:1])] == [status]


def test_a_preparation_that_does_not_end_is_limited(adapters, tmp_path, monkeypatch):
    text = "import time\nfrom conformance.adapter import ReferenceAdapter\n"
    text += "class Slow(ReferenceAdapter):\n    def prepare(self):\n        time.sleep(100)\n"
    (tmp_path / "slow_adapter.py").write_text(text)
    monkeypatch.setattr("conformance.judging.worker.START", 3.0)
    results = list(judge_in_workers(Options("slow_adapter:Slow"), PLAN[:1]))
    assert results[0].message == "no answer within 3 seconds: the process had to be killed"


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
    """Also with three lost cases and no answer."""
    some = list(plan(["affine/*", "flip", "squeeze"], ["forward", "inverse", "contract"]))
    reports = [
        [
            (r.case, r.law, r.dtype, r.status, r.ulps, r.message.split(" after")[0])
            for r in judge_in_workers(Options(f"some_adapters:{name}"), some, jobs)
        ]
        for jobs in (1, 3)
    ]
    assert reports[0] == reports[1]


def test_workers_are_killed_when_the_run_ends(adapters):
    results = judge_in_workers(
        Options("some_adapters:Looping", timeout=30.0), PLAN[2:] + PLAN[:2], 2
    )
    assert next(results).status == "holds"
    start = time.perf_counter()
    results.close()
    assert time.perf_counter() - start < 5


def test_an_adapter_that_does_not_exist_is_refused_by_the_worker():
    with pytest.raises(ValueError, match="No module 'nowhere'"):
        list(judge_in_workers(Options("nowhere:Adapter"), PLAN))


def test_after_three_lost_cases_and_no_answer_the_others_are_not_tried():
    log, chosen = CrashLog(), list(plan(["affine/*"], ["forward"], ["float64"]))
    for case, law, dtype in chosen[:3]:
        assert log.not_tried((case, law, dtype)) is None
        message = "no answer within 1 seconds"
        log.record(Result(case.name, law.name, dtype, "fails", message=message))
    message = log.not_tried(chosen[3]).message
    assert message.startswith("not tried: the first 3 cases were all lost (affine/shared, ")


@pytest.mark.parametrize("status", ["holds", "fails"])
def test_after_one_answer_all_cases_are_tried(status):
    log, chosen = CrashLog(), list(plan(["affine/*", "act_norm/*"], ["forward"], ["float64"]))
    case, law, dtype = chosen[0]
    log.record(Result(case.name, law.name, dtype, status, message="1e6 ulps"))
    for case, law, dtype in chosen[1:6]:
        assert log.not_tried((case, law, dtype)) is None
        log.record(Result(case.name, law.name, dtype, "fails", message="the process ended"))
    assert log.not_tried(chosen[6]) is None


def test_the_time_limit_passes_through_except_exception():
    start = time.perf_counter()
    with pytest.raises(TimeLimitExceeded), time_limit(0.2):
        while True:
            try:
                time.sleep(10)
            except Exception:
                pass
    assert time.perf_counter() - start < 2


def test_no_alarm_is_left_after_the_block():
    with time_limit(None):
        time.sleep(0.01)
    with time_limit(0.05):
        pass
    time.sleep(0.1)


@pytest.mark.parametrize("duration", [0.0, 0.2])
def test_a_timer_that_runs_already_is_set_again(duration):
    received = []
    previous = signal.signal(signal.SIGALRM, lambda number, frame: received.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with time_limit(10.0):
            time.sleep(duration)
        assert not received
        time.sleep(0.3)
        assert received == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


def test_a_judge_in_this_process_interrupts_a_loop_in_python():
    class Looping:
        def __init__(self, spec):
            self.inverse = spec.inverse

        def forward(self, x, context=None):
            while True:
                time.sleep(0.01)

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Looping(spec)

    judge = Judge(Adapter, timeout=0.3)
    flip = BIJECTOR_CASES["flip"]
    result = judge.judge(flip, LAWS["forward"], "float64")
    assert (result.status, result.message) == ("fails", "no answer within 0.3 seconds")
    assert "endless loop" in result.hint
    assert judge.judge(flip, LAWS["inverse"], "float64").status == "holds"


def test_preparing_flowpp_compiles_every_kernel_before_a_time_limit_starts(monkeypatch):
    """With an empty cache, a kernel takes up to a minute to compile."""
    chosen = []

    def record(*tensors, kernel="mixture_logistic"):
        chosen.append(kernel)
        return "torch"

    monkeypatch.setattr("conformance.adapters.flowpp.backend_for", record)
    Options("conformance.adapters.flowpp:FlowppAdapter", dtypes=["float32"]).judge()
    assert set(chosen) == set(get_args(Kernel))
