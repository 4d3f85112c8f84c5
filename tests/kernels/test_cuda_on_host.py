"""The CUDA kernels on the host, with blocks, threads and barriers: every output is written, equals
the CPU kernels', and no access is out of bounds or depends on the order of threads."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cuda_on_host import checks, compiled, launched_on_host
from torch.utils import deterministic

from flowpp.kernels.cpu import build as cpu_build
from flowpp.kernels.cpu import mixture_logistic as cpu
from flowpp.kernels.cuda import build, launch

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")

HELPERS = Path(checks.__file__).parents[1]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The CUDA kernels, compiled for the host; also compiles the CPU kernels accordingly."""
    patch = pytest.MonkeyPatch()
    patch.setenv("FLOWPP_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(cpu_build, "FLAGS", (*cpu_build.FLAGS, checks.UNCONTRACTED))
    cpu_build.forget()
    yield compiled(tmp_path_factory.mktemp("kernels"))
    patch.undo()
    cpu_build.forget()


@pytest.fixture(autouse=True)
def new_memory_is_nan():
    """Fill new tensors with NaN, and integers with the largest: an unwritten output differs."""
    before = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True)
    deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(mode=before[0])
    deterministic.fill_uninitialized_memory = before[1]


def test_new_memory_is_indeed_nan():
    assert torch.empty(3).isnan().all()
    assert (torch.empty_like(torch.zeros(3), dtype=torch.int64) > 1 << 62).all()


def test_the_arguments_of_a_launch_have_the_kernels_size(kernels):
    assert ctypes.CDLL(str(kernels)).task_size() == launch.TASK.itemsize


@pytest.mark.parametrize("components", [1, 2, 3, 7, 8, 10, 31, 32, 33, 64, 127, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_layout_gives_the_cpu_kernels_numbers(kernels, dtype, components):
    checks.check(kernels, components, dtype, order=components % 2, error=components % 5 - 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_thousand_components(kernels, dtype):
    x, packed, *_ = checks.drawn(1000, dtype)
    with launched_on_host(kernels):
        got = launch.forward(x, [packed], checks.FLOOR)
    for a, b in zip(got, cpu.forward(x, [packed], checks.FLOOR), strict=True):
        assert checks.errors(a, b).max() <= checks.ULPS
    with pytest.raises(
        ValueError, match=r"fit into 49152 bytes .* got 80004 bytes; .*use_backend"
    ):
        launch.forward(torch.zeros(1), [torch.zeros(1, 20000)], 0.0)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (65,), (2, 3, 2, 3, 2, 3)])
def test_any_shape(kernels, shape):
    generator = torch.Generator().manual_seed(0)
    x, by_y, by_l = torch.randn(3, *shape, generator=generator)
    packed = torch.randn(*shape, 11, generator=generator)
    reversed_ = packed.permute(*reversed(range(len(shape))), -1).contiguous()
    for parameters in (packed, reversed_.permute(*reversed(range(len(shape))), -1)):
        gradients = by_y, by_l, torch.stack([by_y, by_l])
        with launched_on_host(kernels):
            got = checks.computed(launch, x, [parameters], *gradients)
        checks_ = checks.computed(cpu, x, [parameters], *gradients)
        assert got.keys() == checks_.keys()
        for key in got:
            allowed = checks.ROOT_ULPS if key in ("root", "residual") else checks.ULPS
            if key not in ("evaluations", "width") and x.numel():
                assert checks.errors(got[key], checks_[key]).max() <= allowed, key


def test_expanded_parameters(kernels):
    x, packed, *gradients = checks.drawn(4, torch.float64)
    shared = packed[:1].expand_as(packed)
    with launched_on_host(kernels):
        got = checks.computed(launch, x, [shared], *gradients)
        expected = checks.computed(launch, x, [shared.contiguous()], *gradients)
    for key in expected:
        assert checks.same(got[key], expected[key]), key


def test_bfloat16_equals_conversion_before_and_after(kernels):
    x, packed, *gradients = checks.drawn(32, torch.bfloat16)
    with launched_on_host(kernels):
        got = checks.computed(launch, x, [packed], *gradients)
        wide = checks.computed(launch, x, [packed.float()], *gradients)
    for key in wide:
        converted = wide[key].to(got[key].dtype)
        assert checks.same(got[key], converted), key


def test_subnormal_numbers_are_kept():
    """CuPy adds -ftz=true to a source that it compiles itself, but not to one for NVRTC."""
    assert not any("ftz" in option or "fast" in option for option in build.OPTIONS)
    assert "RawModule(code" not in Path(build.__file__).read_text()


@pytest.mark.slow
def test_64_bit_indices(kernels, tmp_path):
    """From 2^31 elements on; here for all."""
    library = compiled(tmp_path, change=replaced("t.elements < (1ll << 31)", "t.elements < 0"))
    checks.check(library, 4, torch.float32, order=0, error=0)


# Faults that these tests must see.


def without_barrier(number):
    def change(text):
        parts = text.split("if (t.dense) __syncthreads();")
        assert len(parts) == 3
        kept = "if (t.dense) __syncthreads();"
        return parts[0] + (kept, "")[number == 0] + parts[1] + (kept, "")[number == 1] + parts[2]

    return change


def replaced(old, new):
    def change(text):
        assert text.count(old) >= 1, old
        return text.replace(old, new)

    return change


FAULTS = {
    "no barrier after reading": without_barrier(0),
    "no barrier before writing": without_barrier(1),
    "barrier for some threads": replaced(
        "if (t.dense) __syncthreads();", "if (t.dense && threadIdx.x < 8) __syncthreads();"
    ),
    "unwritten output": replaced("t.l[row.element] = l;", ""),
    "unwritten root": replaced("t.evaluations[row.element] = found.evaluations;", ""),
    "last pack left out": replaced(
        "n < part.packs; n += threads", "n < part.packs - 1; n += threads"
    ),
    "head left out": replaced("int i = thread; i < part.head;", "int i = thread; false;"),
    "pitch too small": replaced("at += pitch - width;", "at += pitch - width - 1;"),
    "a row too few": replaced(
        "rows = (int)lesser(t.elements - first, (Index)blockDim.x);",
        "rows = (int)lesser(t.elements - first, (Index)blockDim.x - 1);",
    ),
    "floor at the gradient": replaced("*log_scales >= floor", "*log_scales > floor + 1"),
    "rounding towards zero": replaced("bits + 0x7fffu + ((bits >> 16) & 1u)", "bits"),
    "a thread too many": replaced("number < t.elements", "number <= t.elements"),
    "too much shared memory": replaced("shared += shift(t);", "shared += shift(t) + 9;"),
}


@pytest.mark.parametrize(
    "fault",
    [f if f.startswith("no b") else pytest.param(f, marks=pytest.mark.slow) for f in FAULTS],
)
def test_a_fault_is_seen(kernels, fault, tmp_path):
    # Without optimization, compilation is faster.
    faulty = compiled(tmp_path, "-O0", change=FAULTS[fault])
    seen = []
    for dtype in (torch.float32, torch.bfloat16):
        for components in (4, 10):
            try:
                checks.check(faulty, components, dtype, order=1, error=0)
            except AssertionError as error:
                seen.append(str(error))
    assert seen, fault


# Sanitizers, in a process of their own: torch's memory then comes from the sanitizer, too.


def sanitized(folder, *flags, preload, change=lambda text: text, environment=None):
    library = compiled(folder, "-g", *flags, change=change)
    found = subprocess.run(
        ["g++", f"-print-file-name={preload}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = os.pathsep.join([str(HELPERS), str(Path(build.__file__).parents[3])])
    return subprocess.run(
        [sys.executable, "-m", "cuda_on_host.checks", str(library)],
        env={**os.environ, "LD_PRELOAD": found, "PYTHONPATH": path, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


ADDRESS = dict(
    preload="libasan.so",
    environment={"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"},
)


@pytest.mark.slow
def test_no_access_is_out_of_bounds_and_nothing_is_undefined(kernels, tmp_path):
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    done = sanitized(tmp_path, *flags, **ADDRESS)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        replaced("(Index)blockDim.x);", "(Index)blockDim.x) + 1;"),
        replaced("i = part.tail + thread; i < total", "i = part.tail + thread; i <= total"),
    ],
)
def test_an_access_out_of_bounds_is_seen(kernels, tmp_path, fault):
    done = sanitized(tmp_path, "-fsanitize=address", **ADDRESS, change=fault)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr, done.stderr[-3000:]
