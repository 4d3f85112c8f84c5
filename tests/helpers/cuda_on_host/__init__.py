"""The mixture's CUDA kernels, compiled for the host and launched by the library's own launcher."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch

from flowpp.kernels.cuda import build, launch

FOLDER = Path(__file__).parent
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", "-ffp-contract=off")
FAILURES = {
    1: "some threads ended while others wait at a barrier",
    2: "a thread wrote behind the block's shared memory",
    3: "no such kernel, or more threads or shared memory than a block has",
}


def compiled(folder: Path, *flags: str, change: Callable[[str], str] = lambda text: text) -> Path:
    """Compile the kernels into a library in `folder`.

    Args:
        folder: For the library and the changed source.
        flags: Further options of the compiler.
        change: Applied to the text of mixture_kernels.cu.
    """
    source = build.SOURCE.parent
    (folder / "mixture_logistic.cu").write_text((source / "mixture_logistic.cu").read_text())
    (folder / "mixture_kernels.cu").write_text(change(build.SOURCE.read_text()))
    target = folder / "kernels.so"
    command = ["g++", *FLAGS, *flags, f"-I{folder}", f"-I{FOLDER}", FOLDER / "run.cpp"]
    done = subprocess.run([*command, "-o", target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


@contextmanager
def launched_on_host(library: Path, *, order: int = 0, error: int = 0) -> Iterator[None]:
    """Let `flowpp.kernels.cuda.launch` launch kernels of this library, on CPU tensors.

    Args:
        library: Result of `compiled`.
        order: In which order threads run between two barriers: 0 or 1.
        error: Error of the approximate division in ulps.
    """
    run = ctypes.CDLL(str(library)).run_on_host

    def kernel(name, grid, block, arguments, shared_bytes, stream):
        (task,) = arguments
        assert task.dtype == launch.TASK and task.size == 1
        failure = run(
            name.encode(),
            ctypes.c_void_p(task.__array_interface__["data"][0]),
            ctypes.c_long(*grid),
            *block,
            shared_bytes,
            order,
            error,
        )
        if failure:
            raise AssertionError(FAILURES[failure])

    kernels = {name: functools.partial(kernel, name) for name in build.KERNELS}
    stream = SimpleNamespace(cuda_stream=0)
    with (
        mock.patch.object(build, "functions", lambda device: kernels),
        mock.patch.object(launch, "_stream", lambda pointer: None),
        mock.patch.object(torch.cuda, "current_stream", lambda device: stream),
        mock.patch.object(torch.cuda, "current_device", lambda: None),
    ):
        yield
