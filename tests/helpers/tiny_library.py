"""A library that compiles in a moment, for tests of the kernels' compilation and cache."""

from __future__ import annotations

import torch

from flowpp.kernels.backend import backend_for
from flowpp.kernels.cpu.compilation import Compilation
from flowpp.kernels.cpu.compiler import find_compiler

KERNELS = ("mixture_logistic", "layers", "attention", "convolution")
FLAGS = ("-shared", "-fPIC")
HEADER = "#define NUMBER 42\n"
SOURCE = '#include "number.h"\nextern "C" int number() { return NUMBER; }\n' + (
    'extern "C" void flowpp_use_pool(void *) {}\n'
)


def compiled(source):
    """Return the library of a source file, from the cache or compiled."""
    return Compilation(source, FLAGS, find_compiler()).library()


def stored(tmp_path):
    """Return the only library in the cache."""
    (library,) = (tmp_path / "cache").glob("*.so")
    return library


def lines_about(capsys, text):
    """Return the lines on standard error that contain a text."""
    return [line for line in capsys.readouterr().err.splitlines() if text in line]


def all_backends():
    """Return the backends of all kernels for tensors on the CPU."""
    return {backend_for(torch.zeros(1), kernel=kernel) for kernel in KERNELS}
