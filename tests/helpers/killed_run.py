"""python killed_run.py FOLDER KILLS SEED: kill and resume training runs.

The supervisor imports torch once and forks a child for every attempt, which saves seconds each
time. It computes nothing itself, because threads do not survive a fork. The first kill of a run
comes while it is created, before a random one of its operations on files; every third one in the
middle of writing a checkpoint; the others at random times. In the run number COMPILING all come
while the kernels are compiled, into a cache of its own.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

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


COMPILING = 2
FILE_OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
"""Events of `sys.addaudithook`."""


class Moment(NamedTuple):
    """When to kill an attempt: `number` counts saves or operations on files."""

    kind: str
    number: int = 0


def attempt(out: Path, config: Config) -> None:
    """Train as `python -m flowpp.train --resume auto --out OUT` does."""
    resume = find_run("auto", out, config.preset) is not None
    train(config, out, resume=resume)


def child(out: Path, report: int, moment: Moment, cache: Path | None) -> None:
    """Run an attempt and exit; at the moment, report it and wait to be killed."""
    write, count, number = checkpoint.save_file, 0, moment.number
    if cache is not None:
        os.environ["FLOWPP_CACHE"] = str(cache)

    def half(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal count
        count += 1
        write(tensors, path, metadata)
        if count == number:
            os.truncate(path, path.stat().st_size // 2)
            wait()

    def operation(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in FILE_OPERATIONS and any(str(out) in str(value) for value in arguments):
            count += 1
            if count == number:
                wait()

    def wait() -> None:
        os.write(report, b"x")
        signal.pause()

    if moment.kind == "save":
        checkpoint.save_file = half  # type: ignore[assignment]
    if moment.kind == "operation":
        sys.addaudithook(operation)
    try:
        attempt(out, CONFIG)
    except BaseException as error:  # a child must not continue as the supervisor
        print(f"attempt failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def kill_one(out: Path, draw: random.Random, moment: Moment, cache: Path | None) -> bool:
    """Start an attempt and kill it; return False if it finished first."""
    reader, writer = os.pipe()
    steps, begin = draw.randint(0, 3), newest(out)
    pid = os.fork()
    if pid == 0:
        child(out, writer, moment, cache)
    os.close(writer)
    if moment.kind == "time":
        # Wait for a number of steps, since machines differ in speed, then for a random time.
        while newest(out) < begin + steps and not ended(pid):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.5))
    elif moment.kind == "compilation":
        while not (any(cache.rglob("*")) or ended(pid)):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 4))
    else:
        os.read(reader, 1)  # also returns when the child ends
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


def finish(out: Path, cache: Path | None = None) -> None:
    """Run an attempt to its end."""
    pid = os.fork()
    if pid == 0:
        child(out, -1, Moment("none"), cache)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit("the last attempt failed")


def moment_of(number: int, run: int, draw: random.Random) -> Moment:
    """Return when to kill the attempt of this number in a run, which begins with 0."""
    if run == COMPILING:
        return Moment("compilation")
    if number == 0:
        return Moment("operation", draw.randint(1, 60))
    return Moment("save", draw.randint(1, 2)) if number % 3 == 0 else Moment("time")


def leftovers(folder: Path) -> list[str]:
    """Return the names of temporary files and folders below a folder."""
    hidden = (path.name for path in folder.rglob(".*"))
    return [name for name in hidden if name.endswith(".part") or name.startswith(".tmp")]


def main() -> None:
    """Kill and resume runs, compare them with an uninterrupted one, and print their number."""
    folder, kills, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    finish(folder / "uninterrupted")
    uninterrupted = Run(folder / "uninterrupted").load_checkpoint()
    done = runs = 0
    while done < kills:
        runs += 1
        out, at_most, first = folder / f"run-{runs}", done + 6, done
        cache = folder / "cache" if runs == COMPILING else None
        while done < min(kills, at_most):
            moment = moment_of(done - first, runs, draw)
            if not kill_one(out, draw, moment, cache):
                break
            done += 1
            print(f"kill {done} in run {runs} at {moment}, {newest(out)} steps", flush=True)
        finish(out, cache)
        found = Run(out).load_checkpoint()
        for kind in ("weights", "ema", "state"):
            left, right = getattr(found, kind), getattr(uninterrupted, kind)
            if left.keys() != right.keys() or not all(
                torch.equal(tensor, right[name]) for name, tensor in left.items()
            ):
                raise SystemExit(f"run {runs} ended with different {kind}")
        if left_behind := leftovers(out):
            raise SystemExit(f"left behind: {left_behind}")
    print(f"{runs} runs, {done} kills, all bit-equal")


if __name__ == "__main__":
    main()
