"""Files of compressed images: exact, small, and never a wrong image when damaged."""

from __future__ import annotations

import dataclasses
import json
import struct

import numpy as np
import pytest
import torch
from container_header import header_of, with_header

from flowpp.coding import compression
from flowpp.coding.compression import Options, compress, decompress, file_names
from flowpp.coding.container import FIXED, MAGIC, Container, ContainerError, check_apart
from flowpp.coding.images import Coder
from flowpp.coding.plain import pop_plain, push_plain
from flowpp.coding.sequence import Coded
from flowpp.coding.stack import Stack
from flowpp.config.build import build_model
from flowpp.config.serialization import to_dict
from flowpp.root_finding import RootError
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
        words = FIXED.size + length + 4 * COUNT
        damaged[int(rng.integers(words, len(content)))] ^= 1 << rng.integers(8)
        container, found = Container.from_bytes(bytes(damaged), "file.fpp"), {}
        assert not container.intact
        with pytest.raises(ContainerError, match=r"of 8 images are damaged, 0.png|left over"):
            for place, image in decompress(container, model, {}):
                found[place] = image
        assert all((found[i] == images[i]).all() for i in found)
        salvaged += len(found)
    assert salvaged > 0


def test_a_damaged_checksum_costs_one_image(content, model, images):
    _, _, length, _ = FIXED.unpack_from(content)
    for places in ((5,), (0, 7)):
        damaged, found = bytearray(content), {}
        for place in places:
            damaged[FIXED.size + length + 4 * place] ^= 1
        listed = ", ".join(f"{place}.png" for place in places)
        with pytest.raises(ContainerError, match=f"{len(places)} of 8 .* damaged, {listed}: the "):
            for place, image in decompress(Container.from_bytes(damaged, ""), model, {}):
                found[place] = image
        assert sorted(found) == sorted({*range(COUNT)} - {*places})
        assert all((found[i] == images[i]).all() for i in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.3}, "sigma must be in 0.5 ... 64, got 0.3"),
        ({"sigma": 100}, "sigma must be in"),
        ({"delta_bits": 27}, "delta_bits must be an integer in 1 ... 26, got 27"),
        ({"level_bits": 12.0}, "level_bits must be an integer in 6 ... 16"),
        ({"batch": 5000}, "batch must be an integer in 1 ... 4096"),
        ({"threads": 0}, "threads must be an integer in 1 ... 256"),
    ],
)
def test_options_of_files_that_could_not_be_read_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_whole_sigma_can_be_read(model, images):
    container, _ = compress(model, {}, images[:1], ["a"], options=Options(sigma=1))
    assert Container.from_bytes(container.to_bytes(), "").header.sigma == 1.0


def test_images_that_a_file_could_not_hold_are_refused(model, images):
    for given, error, message in (
        (images + 10, ValueError, r"images must have values 0 \.\.\. 16, got 10 \.\.\. 26"),
        (images.astype(np.int8) - 1, ValueError, r"images must have values 0 \.\.\. 16, got -1"),
        (images / 2, TypeError, "images must be a NumPy array of integers, got float64"),
        (images.tolist(), TypeError, "images must be a NumPy array of integers, got list"),
        (images[0], ValueError, r"images must have shape \(N, C, H, W\)"),
        (images[:0], ValueError, r"images must have shape \(N, C, H, W\)"),
        (images[:, :, :4], ValueError, r"must have the model's shape \(1, 8, 8\)"),
        (images[:3], ValueError, "names must be 3, one for each image, got 8"),
    ):
        with pytest.raises(error, match=message):
            compress(model, {}, given, ["x"] * COUNT)


def test_images_coded_by_the_model_are_known():
    coded = Coded(np.empty(0, np.uint32), (0, 1, 0, 2), (9, 9, 9, 9))
    assert coded.by_model.tolist() == [False, True, False, True, True]


def test_images_without_roots_are_coded_plain_and_damage_without_roots_is_named(
    model, images, monkeypatch
):
    """A root that is not found, in coding or decoding, does not end in a traceback."""

    def failing(self, stack, given):
        raise RootError("no root")

    with monkeypatch.context() as patch:
        patch.setattr(Coder, "encode", failing)
        container, coded = compress(model, {}, images, [f"{i}.png" for i in range(COUNT)])
    assert coded.batches == (0,) * COUNT
    assert len(dict(decompress(container, model, {}))) == COUNT
    header = dataclasses.replace(container.header, batches=(0,) * (COUNT - 1) + (1,))
    monkeypatch.setattr(Coder, "decode", failing)
    with pytest.raises(ContainerError, match=r"8 of 8 images are damaged.*no root"):
        list(decompress(dataclasses.replace(container, header=header), model, {}))


def test_another_model_arithmetic_or_version_is_refused(content, model, monkeypatch):
    other = build_model(TINY.model, SHAPE, 17, torch.Generator().manual_seed(1))
    with pytest.raises(ContainerError, match="needs the model 'tiny' with hash .*, got a model"):
        decoded(content, other)
    with pytest.raises(ContainerError, match="needs the model"):
        list(decompress(Container.from_bytes(content, ""), model, {"other": "settings"}))
    newer = bytearray(content)
    newer[len(MAGIC)] = 3
    with pytest.raises(ContainerError, match="must be of version 1 or 2, got version 3"):
        decoded(bytes(newer), model)
    with pytest.raises(ContainerError, match="must be a file of flowpp.compress"):
        decoded(b"\x89PNG" + content, model)
    with monkeypatch.context() as patch:  # not seen by the hash, as another constriction is not
        patch.setattr(Coder, "decode", lambda self, stack, shape: torch.zeros(shape).long())
        with pytest.raises(ContainerError, match="as it was written with torch .*constriction"):
            decoded(content, model)
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
        (
            {"names": ["a.png", "A.png/b.png", *(f"{i}.png" for i in range(6))]},
            "names must not be those of folders",
        ),
        ({"names": [".bashrc"] * COUNT}, "names must end in .png, got '.bashrc'"),
        ({"levels": 65536}, "names must end in .npy, got '0.png'"),
        ({"names": [], "batches": []}, "do not fit together"),
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
    assert file_names(["A.png", "a.png", "a~2.png"], SHAPE, 17) == ("A.png", "a~3.png", "a~2.png")
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


def test_a_folder_is_found_among_many_names():
    names = [f"{i}{mark}{k}" for i in range(9) for mark in "! -.a" for k in range(9)]
    check_apart([*names, "5", "x/y/z", "x/y!"])
    for more in (["5", "5/a/b"], ["x/y", "x/y!", "x/y/z"], ["5/A", "5/a/b"]):
        for order in ([*more, *names], [*names, *reversed(more)]):
            with pytest.raises(ValueError, match=f"not be those of folders, got '{more[0]}' and"):
                check_apart(order)


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
