"""Images of any size, compressed as tiles of the model's size."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from container_header import header_of, with_header
from hypothesis import given
from hypothesis import strategies as st

from flowpp.coding.compression import Options, compress, decompress
from flowpp.coding.container import FIXED, Container, ContainerError
from flowpp.coding.tiles import Tiling
from flowpp.config.build import build_model
from tiny import TINY

SHAPE = (1, 8, 8)
SIZES = ((8, 8), (1, 1), (17, 9), (3, 20))
COUNT = 1 + 1 + 6 + 3
SIDES = st.integers(1, 12)


@pytest.fixture(scope="module")
def model():
    config = dataclasses.replace(TINY.model, dequantization="uniform")
    return build_model(config, SHAPE, 17, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 17, (1, *size)).astype(np.uint8) for size in SIZES]


@pytest.fixture(scope="module")
def content(model, pictures) -> bytes:
    names = [f"{i}.png" for i in range(len(pictures))]
    container, coded = compress(model, {}, pictures, names, tile=(8, 8), options=Options(batch=2))
    assert 0 < sum(coded.batches) < COUNT == coded.count
    return container.to_bytes()


@given(st.tuples(SIDES, SIDES), st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4))
def test_tiles_are_put_together_again(tile, sizes):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 9, (3, *size)) for size in sizes]
    tiling = Tiling(tile, tuple(sizes))
    tiles = tiling.split(images)
    assert tiles.shape == (tiling.count, 3, *tile)
    for i, image in enumerate(images):
        places = tiling.tiles_of(i)
        assert (tiles[places[0]][:, 0, 0] == image[:, 0, 0]).all()
        assert (tiling.joined(i, tiles[places]) == image).all()


def test_the_last_tiles_are_filled_up_with_the_last_row_and_column():
    image = np.arange(6).reshape(1, 2, 3)
    tiles = Tiling((2, 2), ((2, 3),)).split([image])
    assert tiles[:, 0].tolist() == [[[0, 1], [3, 4]], [[2, 2], [5, 5]]]
    tiles = Tiling((4, 3), ((2, 3),)).split([image])
    assert tiles[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [3, 4, 5]]


def test_images_of_any_size_are_exact(content, model, pictures):
    container = Container.from_bytes(content, "file.fpp")
    assert container.header.sizes == SIZES and container.header.shape == SHAPE
    assert len(container.checksums) == COUNT
    found = dict(decompress(container, model, {}))
    assert sorted(found) == list(range(len(pictures)))
    for i, picture in enumerate(pictures):
        assert found[i].shape == picture.shape and (found[i] == picture).all()


def test_an_image_with_a_damaged_tile_is_not_yielded(content, model, pictures):
    _, _, length, _ = FIXED.unpack_from(content)
    for tile, picture in ((0, 0), (1, 1), (2, 2), (7, 2), (8, 3)):
        damaged, found = bytearray(content), {}
        damaged[FIXED.size + length + 4 * tile] ^= 1  # its checksum
        with pytest.raises(ContainerError, match=rf"1 of 4 images are damaged, {picture}.png: "):
            for place, image in decompress(Container.from_bytes(damaged, ""), model, {}):
                found[place] = image
        assert sorted(found) == sorted({0, 1, 2, 3} - {picture})
        assert all((found[i] == pictures[i]).all() for i in found)


def test_salvaged_images_of_a_damaged_stack_are_right(content, model, pictures):
    _, _, length, _ = FIXED.unpack_from(content)
    rng, salvaged = np.random.default_rng(2), 0
    for _ in range(12):
        damaged, found = bytearray(content), {}
        damaged[int(rng.integers(FIXED.size + length + 4 * COUNT, len(content)))] ^= 4
        with pytest.raises(ContainerError, match="of 4 images are damaged, 0.png|left over"):
            for place, image in decompress(Container.from_bytes(damaged, ""), model, {}):
                found[place] = image
        assert all((found[i] == pictures[i]).all() for i in found)
        salvaged += len(found)
    assert salvaged > 0


@pytest.mark.parametrize(
    "sizes",
    [
        None, [], [[8, 8]], [[8, 8], [1, 1], [17, 9], [3, 0]], [[8, 8], [1, 1], [17, 9], [3, 26]],
        [[8, 8], [1, 1], [17, 9], [3]], [[8, 8], [1, 1], [17, 9], [3, 1 << 20]], [8, 1, 17, 3],
        [[8, 8], [1, 1], [17, 9], [3, 20.0]], [[65536, 65536]] * 4, "8888",
    ],
)  # fmt: skip
def test_hostile_sizes_are_refused(content, sizes):
    header = header_of(content)
    damaged = with_header(content, json.dumps({**header, "sizes": sizes}).encode())
    with pytest.raises(ContainerError, match="the header of .* is damaged"):
        Container.from_bytes(damaged, "file.fpp")
    del header["sizes"]
    with pytest.raises(ContainerError, match="it has other fields"):
        Container.from_bytes(with_header(content, json.dumps(header).encode()), "file.fpp")


def test_images_of_the_models_size_are_written_in_the_first_version(model, pictures, content):
    container, _ = compress(model, {}, pictures[0][None], ["a"])
    versions = [FIXED.unpack_from(c)[1] for c in (container.to_bytes(), content)]
    assert versions == [1, 2]
    assert "sizes" not in header_of(container.to_bytes())


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "must be at least one"),
        ([np.zeros((1, 8, 8))], TypeError, "arrays of integers, got float64"),
        ([[[[1]]]], TypeError, "arrays of integers, got list"),
        ([np.zeros((8, 8), int)], ValueError, r"shapes \(C, H, W\) .* got \(8, 8\)"),
        ([np.zeros((1, 0, 8), int)], ValueError, r"got \(1, 0, 8\)"),
        ([np.zeros((1, 1, 65537), np.uint8)], ValueError, "at most 65536, got .*65537"),
        (
            [np.zeros((1, 8, 8), int), np.zeros((3, 8, 8), int)],
            ValueError,
            r"channels, got \[1, 3",
        ),
        ([np.full((1, 9, 9), 17)], ValueError, "values 0 ... 16, got 17"),
        ([np.zeros((3, 9, 9), int)], ValueError, r"the model's shape \(1, 8, 8\)"),
        ([np.zeros((1, 9, 9), int)] * 2, ValueError, "names must be 2"),
    ],
)
def test_mistakes(model, images, error, message):
    with pytest.raises(error, match=message):
        compress(model, {}, images, ["a"] * min(1, len(images)), tile=(8, 8))
