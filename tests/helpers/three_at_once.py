"""python three_at_once.py FOLDER TIMES: start three runs in the same moment, again and again.

Each run must have a folder of its own, with the settings, environment and result of the process
that trained in it. Every second time they are all told the same folder: one trains, two refuse.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

import torch

from flowpp import train
from flowpp.runs.run import Run
from full_disk import SETTINGS
from killed_run import leftovers

SEEDS = (1, 2, 3)


def start(folder: Path, seed: int, moment: float, out: Path | None) -> int:
    """Fork a process that trains with this seed from the moment on; return its number."""
    pid = os.fork()
    if pid:
        return pid
    arguments = ["digits", *SETTINGS, "--training.steps=1", f"--training.seed={seed}"]
    sys.argv[1:] = arguments
    printed, status = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        time.sleep(max(0, moment - time.time()))
        try:
            train.main(arguments if out is None else [*arguments, f"--out={out}"])
        except SystemExit as stop:
            status = 1
            print(stop.code)
        except BaseException as error:
            status = 99
            print(f"not caught: {error!r}")
    (folder / f"{seed}.txt").write_text(f"{status}\n{printed.getvalue()}")
    os._exit(status)


def check(run: Run, status: dict[int, int]) -> int:
    """Return the seed of a run, whose process must have succeeded and written all of it."""
    seed = run.config().training.seed
    environment = run.facts("environment.json")
    assert environment["seed"] == seed and status[seed] == 0, (run.path, seed, status)
    assert f"--training.seed={seed}" in environment["arguments"]
    assert run.load_checkpoint().facts["config"]["training"]["seed"] == seed
    assert [r["step"] for r in run.metrics()] == [1, 1]
    text = (run.path.parents[1] / f"{seed}.txt").read_text()
    assert json.loads((run.path / "result.json").read_text())["steps"] == 1
    assert run.path.name in text
    return seed


def main() -> None:
    """Start three runs as often as asked."""
    folder, times = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    torch.set_num_threads(1)
    for number in range(times):
        here = folder / f"time-{number}"
        (here / "runs").mkdir(parents=True)
        os.chdir(here)
        out = here / "runs" / "one" if number % 2 else None
        moment = time.time() + 0.2
        children = {seed: start(here, seed, moment, out) for seed in SEEDS}
        status = {
            seed: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            for seed, pid in children.items()
        }
        runs = [Run.open(path) for path in (here / "runs").iterdir()]
        trained = sorted(check(run, status) for run in runs)
        refused = [seed for seed in SEEDS if status[seed]]
        if out is None:
            assert trained == list(SEEDS), (trained, status)
        for seed in refused:
            text = (here / f"{seed}.txt").read_text()
            assert "another process is training" in text or "must be new or empty" in text, text
        assert len(trained) + len(refused) == len(SEEDS) and not leftovers(here)
    print(f"three runs at once, {times} times")


if __name__ == "__main__":
    main()
