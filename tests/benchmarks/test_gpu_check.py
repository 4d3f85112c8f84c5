"""The check of a GPU: all stages in small on the CPU, and stages that fail."""

from __future__ import annotations

import functools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flowpp.benchmark import __main__ as benchmark
from flowpp.benchmark.gpu_check import accuracy, compiler, report, stages, summaries
from flowpp.benchmark.gpu_check.__main__ import main
from flowpp.benchmark.gpu_check.check import Check
from flowpp.benchmark.gpu_check.plan import Plan
from flowpp.benchmark.gpu_check.request import Request
from flowpp.benchmark.gpu_check.stage import Stage
from flowpp.conditioner import Conv2d
from flowpp.kernels.backend import use_backend
from tf32_rounding import TF32Rounding

SMALL = ["--device", "cpu", "--tiny"]


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
def test_all_stages_in_small(tmp_path, capsys):
    kept = tmp_path / "kept"
    kept.mkdir()
    main([*SMALL, "--out", str(tmp_path / "check"), "--keep", str(kept), "--minutes", "60"])
    found = read(tmp_path / "check" / "report.json")
    assert found["passed"] and found["failing"] == [] and found["tiny"]
    records = {r["name"]: r for r in found["stages"]}
    assert list(records) == [stage.name for stage in stages.STAGES]
    assert {r["status"] for r in records.values()} <= {"passed", "skipped"}
    for name, record in records.items():
        if record["status"] == "passed":
            assert record["exit_status"] == 0 and record["seconds"] > 0, name
            assert (tmp_path / "check" / "logs" / f"{name}.log").is_file()
        elif name == "compiler":
            assert "nvcc" in record["error"]
        else:
            assert name == "step-64-bfloat16-eager" and "cpu" in record["error"]
    results = {name: r["result"] for name, r in records.items()}
    assert results["machine"]["versions"]["torch"] and found["machine"] == results["machine"]
    assert results["tests"]["passed"] > 0
    for dtype in ("float32", "float64"):
        assert set(results[f"laws-{dtype}"]["counts"]) == {"holds"}
    tasks = [r["task"] for r in results["mixture"]["results"]]
    assert len(tasks) == 9 and "mixture backward, channels last" in tasks
    for name in ("step-64-bfloat16", "step-64-float32-eager", "step-256-bfloat16"):
        assert results[name]["results"][0]["library"]["images_per_second"] > 0
    assert results["fingerprint"]["layers"] and results["fingerprint"]["bits_per_dim"]
    assert results["initialization"]["bfloat16"]["channels"] > 100
    training = results["training"]
    assert 0 < training["interrupted_at_step"] < training["steps"]
    assert training["training"][-1]["images"] == training["images_seen"] == 32 * training["steps"]
    assert results["evaluation"]["bounds"][-1]["importance_samples"] == 1
    assert results["importance"]["bounds"][-1]["importance_samples"] == 16
    for picture in ("curves.png", "drawn-samples.png"):
        assert (tmp_path / "check" / picture).read_bytes().startswith(b"\x89PNG")
    (copy,) = kept.iterdir()
    assert copy.name.startswith(f"{found['date']}-gpu-check-digits-")
    assert "log_tail" not in read(copy)["stages"][0]
    output = capsys.readouterr().out
    assert "all stages passed" in output and "resumed at" in output


def test_the_benchmark_command_knows_the_check(tmp_path):
    arguments = ["gpu-check", *SMALL, "--stages", "machine", "--out", str(tmp_path / "check")]
    assert [s["name"] for s in benchmark.main(arguments)["stages"]] == ["machine"]


def stage(name, code, seconds=30.0, **fields):
    command = [sys.executable, "-c", code]
    return Stage(name, seconds, lambda *_: command, lambda _: {}, **fields)


GOOD = replace(stage("good", "print('well')"), result=lambda folder: {"answer": 42})


def failing(capsys, tmp_path, *chosen, minutes="1"):
    """Run these stages, require exit status 1, and return the report and the output."""
    arguments = [*SMALL, "--out", str(tmp_path / "check"), "--minutes", minutes]
    with pytest.raises(SystemExit) as stop:
        main(arguments, chosen)
    assert stop.value.code == 1
    return read(tmp_path / "check" / "report.json"), capsys.readouterr().out


def test_a_stage_that_fails_is_recorded_and_the_next_one_runs(tmp_path, capsys):
    broken = stage("broken", "print('before'); raise ValueError('no such kernel')")
    crash = stage("crash", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found, output = failing(capsys, tmp_path, broken, crash, GOOD)
    one, two, three = found["stages"]
    assert one["status"] == two["status"] == "failed" and three["status"] == "passed"
    assert one["error"] == "ValueError: no such kernel" and one["exit_status"] == 1
    assert one["log_tail"][0] == "before"
    assert two["error"] == "ended by SIGSEGV"
    assert three["result"] == {"answer": 42}
    assert found["failing"] == ["broken", "crash"] and not found["passed"]
    assert "failed: broken, crash" in output


def test_a_stage_that_hangs_is_ended_with_what_it_started(tmp_path, capsys):
    started = tmp_path / "started"
    child = f"""
import os, pathlib, time
pathlib.Path({str(started)!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    begin = time.monotonic()
    found, _ = failing(capsys, tmp_path, stage("hang", code), GOOD, minutes="0.1")
    assert time.monotonic() - begin < 30
    assert not is_running(int(started.read_text()))
    assert found["stages"][0]["error"].startswith("stopped at its time limit")
    assert found["stages"][1]["status"] == "no time"
    assert found["failing"] == ["hang", "good"]


def is_running(pid):
    """Whether a process exists that is more than an entry waiting for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_failures_in_a_result_fail_the_stage(tmp_path, capsys):
    off = replace(GOOD, result=lambda folder: {"failures": ["deviation 0.9", "deviation 1.2"]})
    lost = replace(GOOD, name="lost", result=lambda folder: read(folder / "missing.json"))
    found, _ = failing(capsys, tmp_path, off, lost)
    assert found["stages"][0]["error"] == "deviation 0.9; deviation 1.2"
    assert found["stages"][1]["error"].startswith("no result: FileNotFoundError")


def test_a_stage_that_does_not_apply_is_skipped(tmp_path):
    absent = replace(GOOD, name="absent", lacking=lambda plan: "no compiler")
    found = main([*SMALL, "--out", str(tmp_path / "check")], [absent, GOOD])
    assert found["passed"] and found["stages"][0]["status"] == "skipped"
    assert found["stages"][0]["error"] == "no compiler"


def test_an_optional_stage_may_be_left_out(tmp_path):
    slow = stage("slow", "import time; time.sleep(2)")
    left_out = replace(GOOD, name="variant", optional=True)
    found = main([*SMALL, "--out", str(tmp_path / "check"), "--minutes", "0.06"], [slow, left_out])
    assert [s["status"] for s in found["stages"]] == ["passed", "no time"]
    assert found["passed"]


def test_without_a_run_its_evaluation_fails(tmp_path, capsys):
    later = [s for s in stages.STAGES if s.place == "after"]
    found, _ = failing(capsys, tmp_path, *later)
    assert {s["status"] for s in found["stages"]} == {"failed"}
    assert all("no checkpoint" in s["error"] for s in found["stages"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--minutes", "0"], "minutes must be positive"),
        (["--stages", "machine,fly"], "got 'fly'"),
        (["--preset", "cifar11"], "cifar11"),
        (["--data", "no.npz"], "data must be an existing file"),
        (["--device", "tpu"], "device must be cpu, cuda or cuda:N, got 'tpu'"),
        (["--device", "cuda:99"], "got 'cuda:99'"),
        (["--keep", "nowhere"], "keep must be an existing folder"),
    ],
)
def test_invalid_arguments(tmp_path, capsys, arguments, expected):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--out", str(tmp_path / "check"), *arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2 and expected in captured.out + captured.err
    assert not (tmp_path / "check").exists()


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--out", str(tmp_path)])
    assert stop.value.code == 2 and "must be new or empty" in capsys.readouterr().err


def plan(folder):
    return Plan(folder, folder, "cuda", "cifar10", None, tiny=False)


def test_time_is_left_for_training_and_for_what_follows(tmp_path):
    check = Check(plan(tmp_path), stages.STAGES, 8.0)
    by_name = {s.name: s for s in stages.STAGES}
    after = sum(max(20, s.seconds) for s in stages.STAGES if s.place == "after")
    assert check.seconds_for(by_name["tests"]) == 150
    assert check.seconds_for(by_name["training"]) == pytest.approx(480 - after, abs=1)
    check.start -= 300  # the stages before took so long
    assert check.seconds_for(by_name["fingerprint"]) == pytest.approx(180 - after - 80, abs=1)
    assert 0 < check.seconds_for(by_name["fingerprint"]) < 60
    assert check.seconds_for(by_name["evaluation"]) == 20


def test_goals_are_compared_with_what_was_measured():
    def speed(task, **library):
        return {"results": [{"task": task, "library": library}]}

    results = {
        "step-64-bfloat16": speed(
            "train", seconds=0.05, share_of_matmul_peak=0.2, launches={"kernels": 3000},
            host_synchronizations={"count": 0},
        ),
        "mixture": speed("mixture forward, NCHW", kernel_share_of_bandwidth=0.8),
    }  # fmt: skip
    met = {goal["goal"]: goal["met"] for goal in report.goals(results)}
    assert met["training step of 64 in bfloat16, ms"] is False
    assert met["share of bfloat16 peak at 64"] is True
    assert met["share of bfloat16 peak at 256"] is None
    assert met["kernels of a step of 64"] is True
    assert met["host synchronizations of a step"] is True
    assert met["mixture forward, NCHW: share of copy bandwidth"] is True
    assert met["mixture backward, channels last: share of copy bandwidth"] is None


def fingerprint_of_digits():
    return accuracy.fingerprint(Request("", "", "cpu", "digits", None, tiny=True, seconds=60))


def test_tf32_fails_the_fingerprint(monkeypatch):
    """The bounds are between the errors of float32 and those of TF32."""
    assert fingerprint_of_digits()["failures"] == []
    in_tf32 = functools.partial(accuracy.fingerprints.record, precision="tf32")
    monkeypatch.setattr(accuracy.fingerprints, "record", in_tf32)
    with use_backend("torch"), TF32Rounding() as rounding:
        found = fingerprint_of_digits()
    assert rounding.rounded
    assert "output_ulps of " in found["failures"][0] and "bits/dim" in found["failures"][-1]


def test_a_wrong_initialization_is_found(monkeypatch):
    request = Request("", "", "cpu", "digits", None, tiny=True, seconds=60)
    initialize = Conv2d.initialize

    def too_large(layer, x):
        initialize(layer, x)
        layer.weight.data.mul_(1.02)

    monkeypatch.setattr(Conv2d, "initialize", too_large)
    failures = accuracy.initialization(request)["failures"]
    assert len(failures) == 2 and "float32: deviations must be within 1% of 1" in failures[0]


def test_registers_and_spills_are_read():
    text = """
ptxas info    : Compiling entry function 'mixture_forward_float32' for 'sm_90'
ptxas info    : Function properties for mixture_forward_float32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
ptxas info    : Compiling entry function 'mixture_inverse_float64' for 'sm_90'
ptxas info    : Function properties for mixture_inverse_float64
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 1024 bytes smem
"""
    found = compiler.parsed(text)
    assert found["mixture_forward_float32"]["registers"] == 40
    assert found["mixture_forward_float32"]["spill_bytes"] == 0
    assert found["mixture_inverse_float64"]["spill_bytes"] == 20
    assert found["mixture_inverse_float64"]["shared_bytes"] == 1024


def test_failing_tests_and_laws_are_named(tmp_path):
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="good" time="1"/>'
        '<testcase classname="a" name="bad" time="2"><failure message="1 != 2"/></testcase>'
        '<testcase classname="a" name="left" time="0"><skipped message="no GPU"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = summaries.tests(tmp_path)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 1)
    assert found["failures"] == ["a::bad: 1 != 2"] and found["slowest"][0] == ["bad", 2.0]
    cells = [
        {"case": "squeeze", "law": "forward", "dtype": "float32", "status": "holds"},
        {
            "case": "flip", "law": "inverse", "dtype": "float32", "status": "fails",
            "ulps": 9, "allowed": 4, "message": "too far",
        },
    ]  # fmt: skip
    (tmp_path / "laws.json").write_text(json.dumps({"device": "cuda", "cells": cells}))
    found = summaries.laws(tmp_path)
    assert found["counts"] == {"holds": 1, "fails": 1}
    assert found["failures"] == ["flip inverse float32: 9 ulps, 4 allowed: too far"]


def test_no_passed_test_is_a_failure(tmp_path):
    (tmp_path / "junit.xml").write_text("<testsuites><testsuite/></testsuites>")
    assert summaries.tests(tmp_path)["failures"] == ["at least one test must have passed"]
