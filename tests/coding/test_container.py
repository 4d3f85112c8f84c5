"""Files of compressed images: exact, small, and never a wrong image when damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import zlib

import numpy as np
import pytest
import torch

from flowpp.coding import compression
from flowpp.coding.compression import Options, compress, decompress, file_names
from flowpp.coding.container import FIXED, MAGIC, Container, ContainerError
from flowpp.coding.plain import pop_plain, push_plain
from flowpp.coding.stack import Stack
from flowpp.config.build import build_model
from flowpp.config.serialization import to_dict
from tiny import TINY

SHAPE = (1, 8, 8)
COUNT = 8


@pytest.fixture(scope="module")
def model():
    config = dataclasses.replace(TINY.model, dequantization="uniform")
    return build_model(config, SHAPE, 17, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 17, (COUNT, *SHAPE)).astype(np.uint8)


@pytest.fixture(scope="module")
def content(model, images) -> bytes:
    names = [f"{i}.png" for i in range(COUNT)]
    container, coded = compress(model, {}, images, names, run="tiny", options=Options(batch=2))
    assert 0 < sum(coded.batches) < COUNT  # some with the model, some without
    return container.to_bytes()


def decoded(content: bytes, model) -> dict[int, np.ndarray]:
    container = Container.from_bytes(content, "file.fpp")
    if not container.intact:
        raise ContainerError("its SHA-256 is wrong")
    return dict(decompress(container, model, {}))


def header_of(content: bytes) -> dict:
    _, _, length, _ = FIXED.unpack_from(content)
    return json.loads(zlib.decompress(content[FIXED.size : FIXED.size + length]))


def with_header(content: bytes, header: bytes) -> bytes:
    """The file with another header, and a right SHA-256."""
    _, version, length, _ = FIXED.unpack_from(content)
    rest = zlib.compress(header) + content[FIXED.size + length :]
    size = len(zlib.compress(header))
    return FIXED.pack(MAGIC, version, size, hashlib.sha256(rest).digest()) + rest


def test_images_are_exact(content, model, images):
    found = decoded(content, model)
    assert sorted(found) == list(range(COUNT))
    assert all((found[i] == images[i]).all() for i in found)


def test_200_damaged_files_are_refused(content, model):
    rng = np.random.default_rng(1)
    for trial in range(200):
        damaged = bytearray(content)
        if trial % 4 == 0:
            del damaged[int(rng.integers(len(damaged))) :]
        elif trial % 4 == 1:
            damaged += rng.bytes(int(rng.integers(1, 9)))
        else:
            for place in rng.integers(0, len(damaged), rng.integers(1, 4)):
                damaged[place] ^= 1 << rng.integers(8)
        if damaged != content:
            with pytest.raises(ContainerError):
                decoded(bytes(damaged), model)


def test_salvaged_images_are_right(content, model, images):
    """A damaged file, whose SHA-256 is ignored, yields the last images only, unchanged."""
    rng, salvaged = np.random.default_rng(2), 0
    _, _, length, _ = FIXED.unpack_from(content)
    for _ in range(12):
        damaged = bytearray(content)
        damaged[int(rng.integers(FIXED.size + length, len(content)))] ^= 1 << rng.integers(8)
        container, found = Container.from_bytes(bytes(damaged), "file.fpp"), {}
        assert not container.intact
        with pytest.raises(ContainerError, match=r"of 8 images are damaged, 0.png to|left over"):
            for place, image in decompress(container, model, {}):
                found[place] = image
        assert all((found[i] == images[i]).all() for i in found)
        salvaged += len(found)
    assert salvaged > 0


def test_another_model_arithmetic_or_version_is_refused(content, model, monkeypatch):
    other = build_model(TINY.model, SHAPE, 17, torch.Generator().manual_seed(1))
    with pytest.raises(ContainerError, match="needs the model 'tiny' with hash .*, got a model"):
        decoded(content, other)
    with pytest.raises(ContainerError, match="needs the model"):
        list(decompress(Container.from_bytes(content, ""), model, {"other": "settings"}))
    newer = bytearray(content)
    newer[len(MAGIC)] = 2
    with pytest.raises(ContainerError, match="must be of version 1, got version 2"):
        decoded(bytes(newer), model)
    with pytest.raises(ContainerError, match="must be a file of flowpp.compress"):
        decoded(b"\x89PNG" + content, model)
    monkeypatch.setattr(compression, "arithmetic_hash", lambda model, shape: "another")
    with pytest.raises(ContainerError, match="needs the arithmetic of torch .* which rounds"):
        decoded(content, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": [10**9]}, "batches must be an integer in 0 ... 4096"),
        ({"batches": [1]}, "do not fit together"),
        ({"batches": 3}, "batches must be a list"),
        ({"names": ["../up.png"] * COUNT}, "names must be paths inside a folder"),
        ({"names": ["/etc/x.png"] * COUNT}, "names must be paths inside a folder"),
        ({"names": ["a.png"] * COUNT}, "names must differ"),
        ({"names": ["é.png", "e\u0301.png"] * (COUNT // 2)}, "names must differ"),
        ({"names": ["a", "A/b", *"cdefgh"]}, "names must not be those of folders"),
        ({"names": [1] * COUNT}, "names must be texts"),
        ({"shape": [1, 8]}, "do not fit together"),
        ({"shape": [1, 8, 10**9]}, "shape must be an integer"),
        ({"levels": True}, "levels must be an integer"),
        ({"delta_bits": 1000}, "delta_bits must be an integer in 1 ... 26"),
        ({"sigma": 1e99}, "sigma must be in"),
        ({"threads": 10**6}, "threads must be an integer in 1 ... 256"),
        ({"run": "x" * 5000}, "run must be a text"),
        ({"more": 1}, "other fields"),
    ],
)
def test_hostile_headers_are_refused(content, model, change, message):
    header = json.dumps({**header_of(content), **change}).encode()
    with pytest.raises(ContainerError, match=message):
        decoded(with_header(content, header), model)


def test_headers_that_are_no_json_or_unpack_without_end_are_refused(content, model, monkeypatch):
    for header in (b"", b"[", b"[" * 100_000, b"3", b"\xff"):
        with pytest.raises(ContainerError, match="the header of file.fpp is damaged"):
            decoded(with_header(content, header), model)
    monkeypatch.setattr("flowpp.coding.container.LARGEST_HEADER", 100)
    with pytest.raises(ContainerError, match="its length is wrong"):
        decoded(content, model)
    huge = MAGIC + struct.pack("<II", 1, 2**32 - 1) + bytes(32)
    with pytest.raises(ContainerError, match="truncated"):
        decoded(huge, model)


def test_a_conditional_model_is_refused(images):
    model = build_model(TINY.model, SHAPE, 17)
    model.context_encoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="a model without contexts, got a conditional one"):
        compress(model, {}, images, ["x"] * COUNT)


def test_names_of_files_differ():
    names = ["a.jpg", "a.png", "a.PNG", "b/c.bmp", "x"]
    assert file_names(names, (3, 8, 8), 256) == (
        "a.jpg.png", "a.png", "a~2.png", "b/c.bmp.png", "x.png",
    )  # fmt: skip
    assert file_names(["a.png", "b.npy"], (1, 8, 8), 4096) == ("a.png.npy", "b.npy")
    with pytest.raises(ValueError, match="names must be paths inside a folder"):
        file_names(["../a.png"], SHAPE, 17)


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_without_the_model_are_exact(levels, channels):
    rng, stack = np.random.default_rng(0), Stack()
    random = rng.integers(0, levels, (channels, 5, 7))
    flat = np.full((channels, 5, 7), levels - 1)
    smooth = np.add.outer(np.arange(5), np.arange(7)) * levels // 12 % levels + 0 * random
    given = [random, flat, smooth]
    for image in given:
        push_plain(stack, image, levels)
    stack.reserve = 0
    for image in reversed(given):
        assert (pop_plain(stack, image.shape, levels) == image).all()
    assert stack.bits == 0


def test_a_file_may_hold_no_bits_beyond_its_images(model, images):
    container, _ = compress(model, to_dict(TINY.model), images[:1], ["one"])
    assert container.header.batches == (0,)
    words = np.concatenate([container.words[:1], container.words]).astype(np.uint32)
    longer = dataclasses.replace(container, words=words)
    with pytest.raises(ContainerError):
        list(decompress(longer, model, to_dict(TINY.model)))


def test_names_that_a_folder_cannot_hold_are_refused():
    """Before images are compressed: they could not be written when they are decoded."""
    assert file_names(["é", "e\u0301"], SHAPE, 17) == ("é.png", "e\u0301~2.png")
    with pytest.raises(
        ValueError, match=r"not be those of folders, got 'x.png' and 'x.png/0.png'"
    ):
        file_names(["x.png/0.png", "x.png"], SHAPE, 17)
    with pytest.raises(ValueError, match="at most 255 bytes"):
        file_names(["猫" * 84 + ".jpg"], SHAPE, 17)
    with pytest.raises(ValueError, match="printable characters other than"):
        file_names(["12:30.png"], SHAPE, 17)
