"""Intact files of every readable kind, with few images, and their readers."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save

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


def zip_of(contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def picture(kind, side=9, seed=0, **options):
    file = io.BytesIO()
    Image.fromarray(pixels(side, side, 3, seed=seed)).save(file, kind, **options)
    return file.getvalue()


def saved(save, *arguments):
    file = io.BytesIO()
    save(*arguments, file) if save is torch.save else save(file, *arguments)
    return file.getvalue()


def exif(orientation):
    made = Image.Exif()
    made[0x112] = orientation
    return made


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
    "0.gif": picture("GIF", save_all=True, append_images=[Image.fromarray(pixels(9, 9, 3))]),
    "0.jpg": picture("JPEG", exif=exif(6)),
    "0.webp": picture("WEBP", exif=exif(3)),
    "set.zip": zip_of({f"set/{i}.png": png(9, i) for i in range(3)}),
    "set.tar.gz": tar_of({f"set/{i}.png": png(9, i) for i in range(3)}, "w:gz"),
    "set.npy": saved(np.save, pixels(4, 9, 9, 3)),
    "set.npz": npz_of(train=pixels(4, 9, 9, 3), test=pixels(2, 9, 9, 3)),
    "set.pt": saved(torch.save, torch.from_numpy(pixels(4, 9, 9, 3))),
    "set.safetensors": save({"images": pixels(4, 9, 9, 3)}),
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
    if name.startswith("set."):
        return lambda: load(DataConfig(source="folder", path=str(file), size=8))
    if name.startswith("0."):
        (folder / "1.png").write_bytes(png(9, 1))
        (folder / "2.png").write_bytes(png(9, 2))
        return lambda: load(DataConfig(source="folder", path=str(folder), size=8))
    if name == "train_32x32.tar":
        (folder / "valid_32x32.tar").write_bytes(INTACT[name])
    else:
        (folder / "train_data_batch_1.npz").write_bytes(npz_of(data=pixels(3, 3072)))
    return lambda: load(DataConfig(source="imagenet32", path=str(folder), partial=True))
