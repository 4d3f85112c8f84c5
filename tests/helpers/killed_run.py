"""python killed_run.py FOLDER KILLS SEED: kill and resume training runs.

The supervisor imports torch once and forks a child for every attempt, which saves seconds each
time. It computes nothing itself, because threads do not survive a fork. Every third kill comes
in the middle of writing a checkpoint, the others at random times.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from flowpp.config import Config
from flowpp.runs import checkpoint
from flowpp.runs.run import Run
from flowpp.training.loop import train
from flowpp.training.resume import find_run
from tiny import TINY

CONFIG = dataclasses.replace(
    TINY,
    training=dataclasses.replace(
        TINY.training, steps=8, evaluate_every=3, checkpoint_every=1, evaluation_images=8
    ),
)


def attempt(out: Path, config: Config) -> None:
    """Train as `python -m flowpp.train --resume auto --out OUT` does."""
    resume = find_run("auto", out, config.preset) is not None
    train(config, out, resume=resume)


def child(out: Path, report: int, *, in_a_save: bool, number: int) -> None:
    """Run an attempt and exit; with `in_a_save`, report the save and wait to be killed in it."""
    write, count = checkpoint.save_file, 0

    def half(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal count
        count += 1
        write(tensors, path, metadata)
        if count == number:
            os.truncate(path, path.stat().st_size // 2)
            os.write(report, b"x")
            signal.pause()

    if in_a_save:
        checkpoint.save_file = half  # type: ignore[assignment]
    try:
        attempt(out, CONFIG)
    except BaseException as error:  # a child must not continue as the supervisor
        print(f"attempt failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def kill_one(out: Path, draw: random.Random, number: int) -> bool:
    """Start an attempt and kill it; return False if it finished first."""
    reader, writer = os.pipe()
    in_a_save = number % 3 == 0
    which, steps = draw.randint(1, 2), draw.randint(0, 3)
    begin = newest(out)
    pid = os.fork()
    if pid == 0:
        child(out, writer, in_a_save=in_a_save, number=which)
    os.close(writer)
    if in_a_save:
        os.read(reader, 1)  # also returns when the child ends
    else:
        # Wait for a number of steps, since machines differ in speed, then for a random time.
        while newest(out) < begin + steps and not ended(pid):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.5))
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("an attempt failed")
    return os.WIFSIGNALED(status)


def ended(pid: int) -> bool:
    """Return whether the child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def newest(out: Path) -> int:
    """Return the step of the newest checkpoint, or -1."""
    return max((int(path.stem[5:]) for path in Run(out).checkpoint_files()), default=-1)


def finish(out: Path) -> None:
    """Run an attempt to its end."""
    pid = os.fork()
    if pid == 0:
        child(out, -1, in_a_save=False, number=0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit("the last attempt failed")


def main() -> None:
    """Kill and resume runs, compare them with an uninterrupted one, and print their number."""
    folder, kills, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    finish(folder / "uninterrupted")
    uninterrupted = Run(folder / "uninterrupted").load_checkpoint()
    done = runs = 0
    while done < kills:
        runs += 1
        out, at_most = folder / f"run-{runs}", done + 6
        while done < min(kills, at_most) and kill_one(out, draw, done):
            done += 1
            steps = [int(p.stem[5:]) for p in Run(out).checkpoint_files()]
            print(f"kill {done} in run {runs}: checkpoints {steps}", flush=True)
        finish(out)
        found = Run(out).load_checkpoint()
        for kind in ("weights", "ema", "state"):
            left, right = getattr(found, kind), getattr(uninterrupted, kind)
            if left.keys() != right.keys() or not all(
                torch.equal(tensor, right[name]) for name, tensor in left.items()
            ):
                raise SystemExit(f"run {runs} ended with different {kind}")
        parts = [p for p in out.rglob("*.part")]
        if parts:
            raise SystemExit(f"left behind: {parts}")
    print(f"{runs} runs, {done} kills, all bit-equal")


if __name__ == "__main__":
    main()
