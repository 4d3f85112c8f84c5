"""A scratch folder with the files that the documents mention: images, runs, an adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from documents import TINY_MODEL, TINY_RUN, blocks
from flowpp import convert, train


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scratch folder in which all commands are run."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_python_files(folder)
        write_images(folder)
        write_runs()
    return folder


@pytest.fixture(scope="session")
def desk_with_variables(desk: Path) -> Path:
    """`desk` with a tiny cifar10 as the released code's VARIABLES.npz and as runs/released."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        cifar = ["cifar10", "--data.path", "cifar.npz", *TINY_RUN.split()]
        train.main([*cifar, "--out", "runs/variables"])
        convert.main(["runs/variables", "--out", "VARIABLES.npz"])
        convert.main(["VARIABLES.npz", "--out", "runs/released", *TINY_MODEL.split()])
    return desk


def write_python_files(folder: Path) -> None:
    """Write the Python blocks that a document presents as files."""
    for name, first_words in (
        ("my_flows.py", "import numpy as np\nfrom conformance"),
        ("tiles.py", "from pathlib"),
    ):
        text = next(b.text for b in blocks("python") if b.text.startswith(first_words))
        (folder / name).write_text(text)


def write_images(folder: Path) -> None:
    """Write two folders of images, and CIFAR-10 as an npz."""
    rng = np.random.default_rng(0)
    for name in ("MY_IMAGES", "my_images"):
        (folder / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    train_images, test_images = (rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for n in (24, 8))
    np.savez(folder / "cifar.npz", train=train_images, test=test_images)


def write_runs() -> None:
    """Train tiny runs on digits and on a folder of images, in the current folder."""
    tiny = TINY_RUN.split()
    for name in ("mine", "another"):
        train.main(["digits", *tiny, "--model.flow.layout", "columns 1", "--out", f"runs/{name}"])
    for name, flag in (("by-class", "--data.labels=folder"), ("masked", "--data.context=mask")):
        plain = ["digits", *tiny, "--model.flow.layout", "columns 1"]
        train.main([*plain, flag, "--out", f"runs/{name}"])
    pictures = ["small", "--data.path", "MY_IMAGES", "--data.size", "8"]
    train.main([*pictures, *tiny, "--out", "runs/pictures"])
