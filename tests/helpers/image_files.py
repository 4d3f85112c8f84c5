"""Intact files of every readable kind, with few images, and their readers."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
from PIL import Image

from flowpp.config import DataConfig
from flowpp.data import cifar10, load
from flowpp.interop import released

COUNT = 4
"""Images in a batch file of CIFAR-10."""


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(side, seed=0):
    file = io.BytesIO()
    Image.fromarray(pixels(side, side, 3, seed=seed)).save(file, "PNG")
    return file.getvalue()


def tar_of(contents, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def npz_of(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def batch(seed=0):
    return pickle.dumps({b"data": pixels(COUNT, 3072, seed=seed)}, protocol=2)


BATCHES = {f"{cifar10.FOLDER}/{name}": batch(i) for i, name in enumerate(
    (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES))}  # fmt: skip
VARIABLES = {"a/W": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
INTACT = {
    "cifar.tar.gz": tar_of(BATCHES, "w:gz"),
    "cifar.tar": tar_of(BATCHES),
    "cifar.npz": npz_of(train=pixels(6, 32, 32, 3), test=pixels(2, 32, 32, 3)),
    "batch": BATCHES[f"{cifar10.FOLDER}/data_batch_1"],
    "train_32x32.tar": tar_of({f"x/{i}.png": png(32, i) for i in range(3)}),
    "val_data.npz": npz_of(data=pixels(2, 3072)),
    "0.png": png(9),
    "variables.npz": npz_of(**VARIABLES),
}


def reader(name, raw, folder):
    """Write a file, with intact ones beside it where a data set needs several.

    Returns:
        A function that reads it as the library would.
    """
    folder.mkdir()
    file = folder / name
    file.write_bytes(raw)
    if name == "variables.npz":
        return lambda: released.read_variables(file)
    if name.startswith("cifar"):
        return lambda: load(DataConfig(source="cifar10", path=str(file)))
    if name == "batch":
        file.rename(folder / "data_batch_1")
        for path, content in list(BATCHES.items())[1:]:
            (folder / path.split("/")[1]).write_bytes(content)
        return lambda: load(DataConfig(source="cifar10", path=str(folder)))
    if name == "0.png":
        (folder / "1.png").write_bytes(png(9, 1))
        (folder / "2.png").write_bytes(png(9, 2))
        return lambda: load(DataConfig(source="folder", path=str(folder), size=8))
    if name == "train_32x32.tar":
        (folder / "valid_32x32.tar").write_bytes(INTACT[name])
    else:
        (folder / "train_data_batch_1.npz").write_bytes(npz_of(data=pixels(3, 3072)))
    return lambda: load(DataConfig(source="imagenet32", path=str(folder), partial=True))
