"""Torch's switches for TF32 are set as asked, and restored whatever they were."""

from __future__ import annotations

import itertools
import multiprocessing
import threading

import pytest
import torch

from flowpp.runtime.precision import float32_precision, ieee_convolutions, tf32_switches

PAIRS = [("generic", "all")] + [
    (backend, operation)
    for backend in ("cuda", "mkldnn")
    for operation in ("all", "matmul", "conv", "rnn")
]
PREPARED = {
    "default": lambda: None,
    "older matmul": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older convolution": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "newer matmul": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer convolution": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "all of cuda": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "everything": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
}


def switches():
    """Return all switches, those of the older interface as far as they can be read."""
    values = {pair: torch._C._get_fp32_precision_getter(*pair) for pair in PAIRS}
    older = {
        "convolution": torch._C._get_cudnn_allow_tf32,
        "matmul": torch._C._get_cublas_allow_tf32,
        "precision": torch.get_float32_matmul_precision,
    }
    for name, read in older.items():
        try:
            values[name] = read()
        except RuntimeError:
            values[name] = "raises"
    return values


def inherited():
    """Return the switches under each value of their common parent, which shows unset ones."""
    before = torch.backends.fp32_precision
    found = []
    for value in ("ieee", "tf32"):
        torch.backends.fp32_precision = value
        found.append(switches())
    torch.backends.fp32_precision = before
    return found


def check_block(state, meaning):
    """Prepare a state, enter and leave a block; return what went wrong."""
    PREPARED[state]()
    before, inherited_before = switches(), inherited()
    cpu_before = torch._C._get_fp32_precision_getter("mkldnn", "matmul")
    problems = []
    with float32_precision(meaning):
        tf32 = meaning == "tf32"
        if tf32_switches() != {"matmul": tf32, "convolution": tf32}:
            problems.append(f"inside: {switches()}")
        if torch.get_float32_matmul_precision() != ("high" if tf32 else "highest"):
            problems.append("torch.compile would read another precision")
        if torch._C._get_cublas_allow_tf32() != tf32:
            problems.append("torch.compile would read another allow_tf32")
        if torch._C._get_fp32_precision_getter("mkldnn", "matmul") not in ("ieee", "none"):
            problems.append(f"on the CPU: {switches()}, before: {cpu_before}")
        with float32_precision("ieee"):
            if tf32_switches() != {"matmul": False, "convolution": False}:
                problems.append(f"nested: {switches()}")
        if tf32_switches() != {"matmul": tf32, "convolution": tf32}:
            problems.append(f"after a nested block: {switches()}")
    if (switches(), inherited()) != (before, inherited_before):
        problems.append(f"before: {before}, after: {switches()}")
    return problems


@pytest.mark.parametrize("meaning", ["ieee", "tf32"])
@pytest.mark.parametrize("state", PREPARED)
def test_the_switches_are_set_and_restored(state, meaning):
    # In a process of its own: torch cannot unset some switches once they are set.
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(check_block, (state, meaning)) == []


def test_the_switches_are_restored_after_an_error():
    before = switches()
    with pytest.raises(KeyError), float32_precision("ieee"):
        raise KeyError
    assert switches() == before


def check_overlapping(meanings, order):
    """Begin blocks and end them in an order, as several threads may; return what went wrong."""
    before, inherited_before, problems = switches(), inherited(), []
    blocks = [float32_precision(meaning) for meaning in meanings]
    for block in blocks:
        block.__enter__()
    remaining = list(range(len(blocks)))
    for number in order:
        blocks[number].__exit__(None, None, None)
        remaining.remove(number)
        tf32 = bool(remaining) and meanings[remaining[-1]] == "tf32"
        if remaining and tf32_switches() != {"matmul": tf32, "convolution": tf32}:
            problems.append(f"with {remaining} of {order}: {switches()}")
    if (switches(), inherited()) != (before, inherited_before):
        problems.append(f"after {order}: {switches()}, before: {before}")
    return problems


@pytest.mark.parametrize("meanings", [("ieee",) * 3, ("tf32", "ieee", "tf32")], ids="-".join)
def test_the_switches_are_restored_after_overlapping_blocks(meanings):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for order in itertools.permutations(range(3)):
            assert pool.apply(check_overlapping, (meanings, order)) == []


def test_another_meaning_is_refused():
    with pytest.raises(ValueError, match=r"'bf16'"), float32_precision("bf16"):
        pass


def test_convolutions_of_threads_that_overlap_are_ieee_until_the_last_ends():
    with float32_precision("tf32"):
        first, second = ieee_convolutions(), ieee_convolutions()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not tf32_switches()["convolution"]
        second.__exit__(None, None, None)
        assert tf32_switches()["convolution"]


def test_another_precision_is_set_when_no_convolution_needs_ieee():
    """A precision set meanwhile would be lost at the end of the convolution."""
    began = threading.Event()
    found = []

    def other():
        with float32_precision("ieee"):
            began.set()
            found.append(tf32_switches()["convolution"])

    with float32_precision("tf32"):
        thread = threading.Thread(target=other)
        with ieee_convolutions():
            thread.start()
            assert not began.wait(0.2)
        thread.join()
    assert found == [False]
