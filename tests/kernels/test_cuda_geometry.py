"""The walk of the CUDA kernels through memory: every element once, in the order of memory."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from flowpp.kernels.cuda.geometry import (
    ALIGNMENT,
    AXES,
    FIELDS,
    MAX_THREADS,
    SHARED_BYTES,
    geometry,
)


@pytest.fixture(autouse=True)
def computed_anew():
    """Forget geometries of other tests."""
    geometry.cache_clear()


def unpacked(found):
    values = list(FIELDS.unpack(found.fields))
    axes = [values[1 + i * AXES : 1 + (i + 1) * AXES] for i in range(3)]
    names = ("value_stride", "arrays", "passed", "count", "pitch", "dense", "half")
    return values[0], axes, dict(zip(names, values[1 + 3 * AXES :], strict=True))


def walk(found):
    """Return the element and the offset of its parameters, number after number, as the kernel."""
    elements, (sizes, element_strides, parameter_strides), _ = unpacked(found)
    assert math.prod(sizes) == elements
    for indices in itertools.product(*map(range, sizes)):
        yield (
            int(np.dot(indices, element_strides)),
            int(np.dot(indices, parameter_strides)),
        )


LAYOUTS = {
    "contiguous": torch.zeros(2, 3, 4, 5, 6),
    "output of a network": torch.zeros(2, 18, 4, 5).view(2, 3, 6, 4, 5).permute(0, 1, 3, 4, 2),
    "channels last": torch.zeros(2, 4, 5, 3, 6).permute(0, 3, 1, 2, 4),
    "axes reversed": torch.zeros(5, 4, 3, 2, 6).permute(3, 2, 1, 0, 4),
    "expanded": torch.zeros(3, 4, 5, 6).expand(2, 3, 4, 5, 6),
    "one image": torch.zeros(1, 3, 4, 5, 6),
    "every other column": torch.zeros(2, 3, 4, 10, 6)[:, :, :, ::2],
    "one element": torch.zeros(1, 1, 1, 1, 6),
    "one component": torch.zeros(2, 3, 4, 5, 1),
    "half of the channels": torch.zeros(2, 6, 4, 5, 6)[:, 3:],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_element_is_met_once_in_the_order_of_memory(name):
    parameters = LAYOUTS[name]
    shape, strides = tuple(parameters.shape), parameters.stride()
    found = geometry(shape, strides, 3, 4, 4)
    met = list(walk(found))
    indices = itertools.product(*map(range, shape[:-1]))
    expected = [int(np.dot(index, strides[:-1])) for index in indices]
    assert [offset for _, offset in sorted(met)] == expected
    assert sorted(element for element, _ in met) == list(range(len(expected)))
    offsets = [offset for _, offset in met]
    assert offsets == sorted(offsets)
    values = shape[-1]
    in_place = offsets == list(range(0, len(offsets) * values, values))
    dense = in_place and (strides[-1] == 1 or values == 1)
    assert unpacked(found)[2]["dense"] == dense


def test_neighbouring_axes_are_one():
    _, (sizes, element_strides, parameter_strides), _ = unpacked(
        geometry((2, 3, 4, 5), (60, 20, 5, 1), 3, 4, 4)
    )
    assert (sizes, element_strides) == ([1, 1, 1, 24], [0, 0, 0, 1])
    assert parameter_strides == [0, 0, 0, 5]


def test_a_layout_of_too_many_axes_has_no_walk():
    shape, order = (2, 3, 2, 3, 2, 4), (4, 3, 2, 1, 0, 5)
    reversed_axes = torch.zeros(*[shape[i] for i in order]).permute(order)
    assert geometry(shape, reversed_axes.stride(), 3, 4, 4) is None
    four = torch.zeros(3, 2, 3, 2, 4).permute(3, 2, 1, 0, 4)
    assert geometry(tuple(four.shape), four.stride(), 3, 4, 4) is not None


@pytest.mark.parametrize("values", [1, 2, 3, 4, 31, 32, 33, 97, 128, 300])
@pytest.mark.parametrize("arrays", [1, 3])
@pytest.mark.parametrize("item_size", [4, 8])
def test_threads_and_shared_memory(values, arrays, item_size):
    shape = (1, 1, 10, 13, values)
    found = geometry(shape, torch.zeros(shape).stride(), arrays, item_size, item_size)
    elements, _, field = unpacked(found)
    assert elements == 130 and found.blocks == math.ceil(130 / found.threads)
    row = field["pitch"] * item_size
    assert found.shared_bytes == found.threads * row + ALIGNMENT <= SHARED_BYTES
    larger = 2 * found.threads
    assert found.threads == MAX_THREADS or larger * row + ALIGNMENT > SHARED_BYTES
    assert arrays * values <= field["pitch"] <= arrays * values + 1
    banks = 128 // item_size
    assert math.gcd(field["pitch"], banks) <= (2 if arrays == 1 else 1)
    if arrays == 1 and math.gcd(values, banks) <= 2:
        assert field["pitch"] == values


def test_parameters_without_order_have_no_gaps_in_shared_memory():
    permuted = torch.zeros(2, 96, 4, 5).permute(0, 2, 3, 1)
    found = geometry(tuple(permuted.shape), permuted.stride(), 1, 4, 4)
    assert unpacked(found)[2]["pitch"] == 96 and not unpacked(found)[2]["dense"]
    dense = torch.zeros(2, 4, 5, 96)
    assert unpacked(geometry(tuple(dense.shape), dense.stride(), 1, 4, 4))[2]["pitch"] == 97


@pytest.mark.parametrize(
    ("values", "arrays", "passed", "count"), [(17, 1, 2, 5), (24, 1, 0, 8), (5, 3, 0, 5)]
)
@pytest.mark.parametrize("stored_size", [2, 4])
def test_other_arguments_of_a_launch(values, arrays, passed, count, stored_size):
    strides = (100, 3)
    _, _, field = unpacked(geometry((7, values), strides, arrays, 4, stored_size))
    assert (field["passed"], field["count"]) == (passed, count)
    assert (field["arrays"], field["value_stride"]) == (arrays, 3)
    assert field["half"] == (stored_size == 2)


def test_parameters_that_no_block_can_hold():
    most = (SHARED_BYTES - ALIGNMENT) // 4
    shape = (1, most // 3 * 3 - 3)
    assert geometry(shape, (shape[1], 1), 1, 4, 4).threads == 1
    # 8 threads need all of the shared memory, the next size is one number too much for them.
    assert geometry((1, 1535), (1535, 1), 1, 4, 4).threads == 8
    assert geometry((1, 1537), (1537, 1), 1, 4, 4).threads == 4
    permuted = torch.zeros(2, 192, 4, 5).permute(0, 2, 3, 1)
    assert geometry(tuple(permuted.shape), permuted.stride(), 1, 4, 4).threads == 32
    message = (
        rf"fit into {SHARED_BYTES} bytes of shared memory, got {4 * 12289} bytes; compute with "
    )
    message += r"flowpp.kernels.backend.use_backend\('torch'\)$"
    with pytest.raises(ValueError, match=message):
        geometry((1, 12288), (12288, 1), 1, 4, 4)
