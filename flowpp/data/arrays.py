"""Images in arrays: .npy, .npz, .pt and .safetensors files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from flowpp.data import npz
from flowpp.data.decode import Source
from flowpp.data.formats import count_of
from flowpp.data.label_arrays import NAMES, named, names_in
from flowpp.data.listing import Listing
from flowpp.data.split_names import role_of
from flowpp.data.zip_archive import open_zip
from flowpp.runtime.bounded import brief
from flowpp.runtime.safetensors_header import check_count, check_header

DTYPES = (np.uint8, np.uint16)
CHANNELS = (1, 3)
WITH_ALPHA = (2, 4)
CONTEXT = ("_context", "_contexts")
"""Endings of the names of arrays that images are conditioned on."""
LABEL_WORD = re.compile(r"label|target|class|(?<![^_\W])y(?![^_\W])", re.IGNORECASE)
"""Parts of the names of arrays of labels."""
MOST_TENSORS = 10_000
"""Upper bound on the members of a file of torch.save, which has one for each tensor."""


@dataclass(frozen=True)
class ArrayFiles:
    """Images in one or several arrays of a file.

    The images of an array `train` are listed as train/0, train/1 ..., those of a single array as
    0, 1 ..., so that they are split as files are.

    Args:
        path: The file.
        arrays: Images by name of the array, (N, H, W) or (N, H, W, 3).
        listing: Names of all images.
        others: The file's other arrays, such as labels, by name.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    listing: Listing
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, found: Mapping[str, np.ndarray]) -> ArrayFiles:
        """Find the arrays of images among those of a file, and their layout.

        Raises:
            TypeError: Images of another type than uint8 or uint16.
            ValueError: No images, several arrays without names such as `train` and `test`, or an
                array whose channels cannot be told from its height and width.
        """
        candidates = {
            name: array
            for name, array in found.items()
            if array.ndim in (3, 4) and not name.endswith(CONTEXT)
        }
        if not candidates:
            shapes = {name: array.shape for name, array in found.items()}
            raise ValueError(
                f"{path} must have an array of images, (N, H, W), (N, H, W, C) or (N, C, H, W), "
                f"got {shapes}"
            )
        if len(candidates) > 1:
            without = [name for name in candidates if role_of(name) is None]
            candidates = {name: a for name, a in candidates.items() if name not in without}
            if not candidates:
                raise ValueError(
                    f"{path} must have one array of images, or arrays named train and test, "
                    f"got {', '.join(without)}"
                )
        arrays = {name: as_nhwc(a, f"{path}: {name}") for name, a in candidates.items()}
        names = [
            PurePosixPath(name, f"{index:08}") if len(arrays) > 1 else PurePosixPath(f"{index:08}")
            for name, array in arrays.items()
            for index in range(len(array))
        ]
        listing = Listing(tuple(sorted(names, key=lambda name: name.parts)))
        others = {name: array for name, array in found.items() if name not in arrays}
        return cls(path, arrays, listing, others)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def where(self) -> str:
        return str(self.path)

    def who(self, image: PurePosixPath) -> str:
        return f"image {int(image.name)} of {self.path / image.parent}"

    def paths(self, images: Sequence[PurePosixPath]) -> list[Path]:
        return [self.path]

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        single = next(iter(self.arrays.values())) if len(self.arrays) == 1 else None
        for image in images:
            array = self.arrays[str(image.parent)] if single is None else single
            native = array.dtype.newbyteorder("=")
            yield image, np.ascontiguousarray(array[int(image.name)], native)

    def labels(self, images: Sequence[PurePosixPath]) -> list[str]:
        classes = self.others.get(NAMES)
        names = None if classes is None else names_in(classes, f"{self.path}: {NAMES}")
        labels = {name: self._labels_of(name, names) for name in self.arrays}
        single = next(iter(labels.values())) if len(labels) == 1 else None
        return [
            (labels[str(image.parent)] if single is None else single)[int(image.name)]
            for image in images
        ]

    def _labels_of(self, array: str, names: Sequence[str] | None) -> list[str]:
        """Return the labels of the images of an array.

        Raises:
            TypeError, ValueError: None, several arrays, or labels of another kind or number.
        """
        role, count = role_of(array) if len(self.arrays) > 1 else None, len(self.arrays[array])
        found = [
            name
            for name in self.others
            if LABEL_WORD.search(name) and name != NAMES
            and (role is None or (given := role_of(name)) and given.role == role.role)
        ]  # fmt: skip
        if len(found) != 1:
            wanted = "labels" if role is None else f"{role.role}_labels"
            raise ValueError(
                f"{self.path} must have one array of labels of {array}, such as {wanted}, got "
                f"{' and '.join(found) or 'none'} among {', '.join(self.others) or 'no others'}"
            )
        who = f"{self.path}: {found[0]}"
        labels = named(names_in(self.others[found[0]], who), names, who)
        if len(labels) != count:
            raise ValueError(f"{who} must have {count:,} labels, got {len(labels):,}")
        return labels


def read_npy(path: Path) -> ArrayFiles:
    """Read an .npy file, image by image when they are used; raises as `ArrayFiles.of`."""
    with _damage_named(path):
        found = {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
    return ArrayFiles.of(path, found)


def read_npz(path: Path) -> ArrayFiles:
    """Read the arrays of an .npz file; raises as `ArrayFiles.of`."""
    return ArrayFiles.of(path, npz.read(path, npz.names(path)))


def read_torch(path: Path) -> ArrayFiles:
    """Read the tensors of a file of `torch.save`, without running code that it may hold.

    Raises:
        TypeError, ValueError: As `ArrayFiles.of`, and for a file with more than tensors.
    """
    import torch

    with _damage_named(path):
        _check_torch(path)
        found = _flat(torch.load(path, map_location="cpu", weights_only=True))
    return ArrayFiles.of(path, found)


def read_safetensors(path: Path) -> ArrayFiles:
    """Read the tensors of a .safetensors file; raises as `ArrayFiles.of`."""
    from safetensors import safe_open

    with _damage_named(path):
        check_header(path)
        with safe_open(path, "np") as file:
            found = {name: file.get_tensor(name) for name in check_count(path, file.keys())}
    return ArrayFiles.of(path, found)


def _check_torch(path: Path) -> None:
    """Refuse more tensors than a data set has, and compression, which `torch.save` does not use.

    Raises:
        OSError, ValueError: See above.
    """
    with open_zip(path, MOST_TENSORS) as archive:
        packed = [member.filename for member in archive.infolist() if member.compress_type]
    if packed:
        raise ValueError(f"its members must not be compressed, got {packed[0]}")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f"{path} is damaged or holds more than arrays: {brief(error)}") from error


def _flat(value: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a tensor, list, tuple or dictionary by name."""
    if isinstance(value, Mapping):
        items = {str(key): entry for key, entry in value.items()}
    elif isinstance(value, list | tuple):
        items = {f"entry {index}": entry for index, entry in enumerate(value)}
    else:
        items = {"images": value}
    return {name: entry.numpy() for name, entry in items.items() if hasattr(entry, "numpy")}


def as_nhwc(array: np.ndarray, who: str) -> np.ndarray:
    """Return (N, H, W) or (N, H, W, 3), of uint8 or uint16.

    Args:
        array: The images, (N, H, W), (N, H, W, C) or (N, C, H, W).
        who: Their name in messages.

    Raises:
        TypeError: Another type.
        ValueError: No images, or an array with an ambiguous channel axis.
    """
    if array.dtype == bool:
        raise TypeError(
            f"{who} must be uint8 or uint16, got bool; use array.astype('uint8') * 255"
        )
    if array.dtype.newbyteorder("=") not in DTYPES:
        hint = "; values in [0, 1] become levels by (array * 255).round()" * (
            array.dtype.kind == "f"
        )
        raise TypeError(
            f"{who} must be uint8 or uint16, got {array.dtype}{hint}; convert with "
            "array.astype('uint8') after a look at its range"
        )
    shape = array.shape
    if 0 in shape:
        raise ValueError(f"{who} must not be empty, got shape {shape}")
    if array.ndim == 3:
        if shape[2] <= 4:
            raise ValueError(
                f"{who} must be (N, H, W) for grey images, got {shape}, which looks like one "
                "image (H, W, C): for several, stack them to (N, H, W, C)"
            )
        return array
    last, first = shape[3] in CHANNELS, shape[1] in CHANNELS
    if last == first:
        why = "channels first or last" if last else _alpha_hint(shape)
        raise ValueError(
            f"{who} must be (N, H, W, C) or (N, C, H, W) with 1 or 3 channels and larger sides, "
            f"got {shape}: {why}, or save (N, H, W)"
        )
    array = array if last else array.transpose(0, 2, 3, 1)
    return array[..., 0] if array.shape[3] == 1 else array


def _alpha_hint(shape: tuple[int, ...]) -> str:
    """Return the number of channels of images (N, H, W, C) or (N, C, H, W), and what to do."""
    is_first = shape[1] in WITH_ALPHA and shape[3] not in WITH_ALPHA
    channels = shape[1] if is_first else shape[3]
    kept = f":{channels - 1}" if channels in WITH_ALPHA else ":3"
    index = f":, {kept}" if is_first else f"..., {kept}"
    return f"{count_of(channels, 'channel')}; drop an alpha channel by array[{index}]"
