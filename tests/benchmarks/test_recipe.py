"""Comparison of recipes: plans, runs that are resumed, and the statistics of their table."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from flowpp import train
from flowpp.benchmark.recipe import execution, outcomes, tables
from flowpp.benchmark.recipe.__main__ import main
from flowpp.benchmark.recipe.plan import read_plan
from flowpp.runs.run import Run

pytest.importorskip("tomllib", reason="came with Python 3.11")
PLANS = sorted((Path(__file__).parent / "plans").glob("*.toml"))
PLAN = """
title = "Trial"
seeds = [0, 1]
steps = [1, 2]

[settings]
training.steps = 2
training.evaluate_every = 1
training.log_every = 1
training.batch_size = 4
training.init_batch_size = 8
training.evaluation_images = 4
training.sample_count = 1
training.ema_decay = 0.0
model.flow.filters = 4
model.flow.layout = "columns 1"
model.dequantizer.filters = 4
model.dequantizer.layout = "columns 1"

[[rows]]
name = "first"
preset = "digits"

[[rows]]
name = "Second, flipped"
preset = "digits"
seeds = [0]
settings.data.flip = true
settings.training.learning_rate = 1e-2
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


class InThisProcess:
    """`Popen` for the training command, without the seconds that imports take."""

    def __init__(self, command, **_options):
        assert tuple(command[:3]) == execution.COMMAND
        self.status = 0
        try:
            train.main(command[3:])
        except SystemExit as stop:
            self.status = stop.code

    def wait(self):
        return self.status


def never(*_arguments, **_options):
    raise AssertionError("a process was started")


def test_a_plan_is_trained_once_and_tabulated(plan, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(execution, "Popen", InThisProcess)
    selected = ["--out", str(out), "--seeds", "0", "--rows", "Second, flipped"]
    report = main([str(plan), *selected])
    assert [row["name"] for row in report["rows"]] == ["first", "Second, flipped"]
    assert [[run["seed"] for run in row["runs"]] for row in report["rows"]] == [[], [0]]
    run = Run.open(out / "second-flipped" / "seed-0")
    assert run.config().data.flip
    assert run.config().training.learning_rate == 1e-2
    recorded = {r["step"]: r for r in run.metrics() if "held_out_bits_per_dim" in r}
    bounds = {str(step): recorded[step]["held_out_bits_per_dim"] for step in (1, 2)}
    assert report["rows"][1]["runs"][0]["held_out"] == bounds
    assert json.loads((out / "report.json").read_text()) == report
    assert f"| {bounds['1']:.3f} | {bounds['2']:.3f} |" in (out / "table.md").read_text()

    monkeypatch.setattr(execution, "Popen", never)
    assert main([str(plan), *selected]) == report  # finished runs are not repeated
    plan.write_text(PLAN.replace("1e-2", "2e-2"))
    with pytest.raises(SystemExit, match="2"):
        main([str(plan), "--out", str(out)])
    message = "training.learning_rate was 0.01, the plan has 0.02"
    assert message in capsys.readouterr().err
    (out / "second-flipped" / "seed-0.json").unlink()  # as for a run from elsewhere
    with pytest.raises(SystemExit, match="2"):
        main([str(plan), "--out", str(out), "--table-only"])
    assert message in capsys.readouterr().err
    plan.write_text(PLAN)
    assert main([str(plan), *selected]) == report


def test_a_failed_run_is_named_and_the_others_are_trained(plan, tmp_path, monkeypatch):
    script = "case $* in *flip*) echo 'error: the loss is nan'; exit 1;; esac"
    monkeypatch.setattr(execution, "COMMAND", ("sh", "-c", script, "sh"))
    wanted = execution.tasks(read_plan(plan).rows, tmp_path)
    ended = {}
    errors = execution.run_all(wanted, 2, lambda task, error: ended.update({task.path: error}))
    assert len(ended) == 3
    error = "error: the loss is nan"
    assert errors == [f"{tmp_path / 'second-flipped' / 'seed-0'}: {error}"]
    assert [task.failure for task in wanted] == [None, error, None]
    with pytest.raises(SystemExit, match=error):
        main([str(plan), "--out", str(tmp_path), "--rows", "Second, flipped"])


def test_a_signal_stops_the_runs_in_progress(plan, tmp_path, monkeypatch):
    script = "trap 'exit 143' TERM; touch started; sleep 20 & wait"
    monkeypatch.setattr(execution, "COMMAND", ("sh", "-c", f"cd {tmp_path}; {script}", "sh"))
    wanted = execution.tasks(read_plan(plan).rows, tmp_path)

    def interrupt():
        while not (tmp_path / "started").exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    ended = []
    errors = execution.run_all(wanted, 1, lambda task, error: ended.append((task, error)))
    assert errors == [f"{wanted[0].path}: stopped"]
    assert ended == [(wanted[0], "stopped")]


@pytest.mark.parametrize(
    ("former", "text", "expected"),
    [
        ("seeds = [0]", "seed = [0]", "a row must have fields among"),
        ("training.steps = 2", "training.step = 2", "row 'first': unrecognized option"),
        ("data.flip = true", "training.seed = 3", "training.seed must be left out"),
        ("seeds = [0]", "seeds = [0, 0]", "seeds must be different"),
        ("seeds = [0]", "against = 'third'", "against must be a row's name, got 'third'"),
        ("evaluate_every = 1", "evaluate_every = 2", "steps must be multiples of"),
        ("steps = [1, 2]", "steps = [4]", "steps must include one of its 2 steps"),
        ("Second, flipped", "First", "names of rows must differ"),
        ('preset = "digits"', "", "a row must have preset, got"),
        ("data.flip = true", "data.flip = [1]", "data.flip must be a number, a text"),
        ("title", "title title", "must be TOML"),
    ],
)
def test_invalid_plans_are_refused(plan, former, text, expected):
    assert former in PLAN
    plan.write_text(PLAN.replace(former, text))
    with pytest.raises(ValueError, match=expected):
        read_plan(plan)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_of_this_project_are_valid(path):
    plan = read_plan(path, {"data.path": "cifar10_small.npz"})
    assert outcomes.report(plan, path.parent / "no runs")["rows"]


ROOT = Path(__file__).parents[2]
REPORTS = sorted((ROOT / "tests" / "benchmarks" / "results").glob("recipe-*.json"))


def test_tables_in_the_documents_are_those_of_reports():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    tables_of_reports = [tables.table(outcomes.read_report(path)).splitlines() for path in REPORTS]
    blocks = [block.splitlines() for block in page.split("\n\n")]
    shown = [block for block in blocks if block[0].startswith("| recipe | weights |")]
    assert sorted(shown) == sorted(tables_of_reports)


def row(name, source, *bounds):
    runs = [
        {"seed": seed, "held_out": {"9": bound}, "steps_done": 9, "failure": None}
        for seed, bound in enumerate(bounds)
    ]
    return {
        "name": name, "source": source, "runs": runs, "weights": 7, "ema_decay": 0.0,
        "steps": 9, "against": "a",
    }  # fmt: skip


def test_differences_have_the_intervals_of_scipy():
    from scipy import stats

    ours, former, released = [1.0, 1.2, 0.9], [1.5, 1.8, 1.3], [1.4, 1.9]
    a, b = row("a", None, *ours), row("b", None, *former)
    c = row("c", "elsewhere", *released)
    paired = tables.difference(a, b, 9)
    low, high = stats.ttest_rel(ours, former).confidence_interval()
    assert paired.mean == pytest.approx((low + high) / 2)
    assert paired.half_width == pytest.approx((high - low) / 2)
    assert paired.is_clear
    welch = tables.difference(a, c, 9)
    low, high = stats.ttest_ind(ours, released, equal_var=False).confidence_interval()
    assert welch.mean == pytest.approx((low + high) / 2)
    assert welch.half_width == pytest.approx((high - low) / 2)
    assert not welch.is_clear
    assert tables.difference(a, row("d", None, 2.0), 9).half_width is None
    assert tables.difference(a, b, 10) is None


def test_the_table_marks_clear_differences_and_failed_runs():
    rows = [row("a", None, 1.0, 1.2), row("b", None, 3.0, 3.2), row("c", None, 1.1, None)]
    rows[2]["runs"][1] |= {"failure": "error", "steps_done": 4}
    rows.append(row("not started", None))
    text = tables.markdown({"protocol": "Bits.", "steps": [9], "rows": rows})
    assert "| b | 7 | - | 3.100 ± 0.141 | **+2.000 ± 0.000** | 2 |" in text
    assert "| c | 7 | - | 1.100 | +0.100 | 2 (seed 1 failed after step 4) |" in text
    assert "not started" not in text


def test_the_training_bound_is_the_mean_over_the_last_steps(monkeypatch):
    monkeypatch.setattr(outcomes, "TRAINING_WINDOW", 30)
    records = [
        {"step": step, "bits_per_dim": bits} for step, bits in ((20, 8.0), (40, 4.0), (60, 1.0))
    ]
    assert outcomes._training_mean(records, 60) == pytest.approx((20 * 1.0 + 10 * 4.0) / 30)
    assert outcomes._training_mean(records, 40) == pytest.approx((20 * 4.0 + 10 * 8.0) / 30)
    assert outcomes._training_mean(records[:1], 20) == pytest.approx(8.0)
