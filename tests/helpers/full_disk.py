"""LD_PRELOAD=full_disk.so python full_disk.py FOLDER MOMENTS: train until the disk is full.

For each of the moments a child trains on a disk with room for a part of what a run writes. Its
run is then resumed on a disk with room, and compared with an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from pathlib import Path

import torch
from same_runs import same_state

from flowpp import train
from killed_run import leftovers

SETTINGS = [
    *(f"--model.{flow}.{name}" for flow in ("flow", "dequantizer")
      for name in ("layout=columns 1", "filters=4", "blocks=1", "components=2")),
    "--training.steps=6", "--training.evaluate_every=3", "--training.checkpoint_every=1",
    "--training.log_every=1", "--training.batch_size=8", "--training.init_batch_size=32",
    "--training.evaluation_images=8", "--training.device=cpu", "--training.threads=1",
]  # fmt: skip


def attempt(folder: Path, arguments: list[str], room: int) -> tuple[int, str, int]:
    """Train in a child on a disk with room for this many bytes; -1 for any number.

    Returns:
        The child's status, what it printed, and the bytes it wrote.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        disk, printed, status = ctypes.CDLL(None), io.StringIO(), 0
        disk.full_disk_written.restype = ctypes.c_long
        disk.full_disk_after(ctypes.c_long(room), os.fsencode(folder))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                train.main(arguments)
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 1
                print(stop.code)
            except BaseException as error:
                status = 99
                print(f"not caught: {error!r}")
        text = f"{disk.full_disk_written()}\n{printed.getvalue()}"
        disk.full_disk_after(ctypes.c_long(-1), os.fsencode(folder))
        with os.fdopen(writer, "w") as pipe:
            pipe.write(text)
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count, _, text = pipe.read().partition("\n")
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), text, int(count)


def main() -> None:
    """Fill the disk at each moment, and print what was reported."""
    folder, moments = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    os.chdir(folder)
    torch.set_num_threads(1)
    new = ["digits", *SETTINGS]
    status, text, total = attempt(folder, [*new, f"--out={folder}/whole"], -1)
    assert status == 0, text
    for moment in range(moments):
        out, room = folder / f"run-{moment}", int(total * (moment / moments) ** 3)
        status, text, _ = attempt(folder, [*new, f"--out={out}"], room)
        last = next(line for line in reversed(text.splitlines()) if "error:" in line)
        print(f"room for {room:,} of {total:,} bytes: {last}", flush=True)
        assert status in (1, 2) and "No space left" in last, text
        assert not leftovers(folder), leftovers(folder)
        again = [f"--resume={out}"] if "--resume" in last else [*new, f"--out={out}"]
        status, text, _ = attempt(folder, again, -1)
        assert status == 0, text
        same_state(out, folder / "whole")
    print(f"{moments} full disks, all bit-equal")


if __name__ == "__main__":
    main()
