"""Compression of images with a model to a `Container`, and back."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from flowpp.model import FlowPlusPlus
from flowpp.root_finding import RootError

from .arithmetic import arithmetic_hash, exact, machine, model_hash, threads
from .container import (
    LARGEST_BATCH,
    LARGEST_SIDE,
    LIMITS,
    LONGEST_NAME,
    Container,
    ContainerError,
    Header,
    check_apart,
    check_integer,
    check_name,
    check_sigma,
    checksum,
    comparable_name,
    suffix_of,
)
from .images import Coder
from .sequence import Coded, decode_images, encode_images
from .stack import CodingError
from .tiles import Tiling

Progress = Callable[[int], None]
WRONG_CHECKSUM = "the checksum of an image is wrong"
SHOWN = 10
"""Number of names in a message."""


@dataclass(frozen=True)
class Options:
    """How to compress.

    Args:
        delta_bits: -log2 of the width of a bin of numbers on the real line.
        level_bits: log2 of the number of bins of the dequantization noise.
        sigma: standard deviation of the noise, in bins.
        batch: largest number of images computed at once.
        threads: number of threads, which the file's reader uses too.

    Raises:
        ValueError: a number out of range, with which no file could be read.
    """

    delta_bits: int = 14
    level_bits: int = 12
    sigma: float = 1.0
    batch: int = 8
    threads: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", float(self.sigma))
        check_sigma(self.sigma)
        check_integer("batch", self.batch, 1, LARGEST_BATCH)
        for name in ("delta_bits", "level_bits", "threads"):
            check_integer(name, getattr(self, name), *LIMITS[name])


def compress(
    model: FlowPlusPlus,
    settings: Any,
    images: np.ndarray | Sequence[np.ndarray],
    names: Sequence[str],
    *,
    tile: tuple[int, int] | None = None,
    run: str = "",
    options: Options = Options(),  # noqa: B008  (it is frozen)
    progress: Progress = lambda count: None,
) -> tuple[Container, Coded]:
    """Compress images `(N, C, H, W)`, or images `(C, H, W)` of any sizes in tiles.

    Args:
        model: trained model, of any dtype and device; it is copied.
        settings: its settings as plain values, which the file holds a hash of.
        images: integers 0 ... levels - 1, of the model's shape, or of its channels with `tile`.
        names: a name for each, made into that of a file by `file_names`.
        tile: (height, width) of the model's images, into which images of any size are cut.
        run: where the model is found, for the file's reader.
        options: widths of bins, batch size and threads.
        progress: called with the number of images, or tiles, of each batch.

    Raises:
        TypeError: images that are not arrays of integers.
        ValueError: a conditional model, images of another shape or with other values, another
            number of names, names that are not paths, or a run's name that is too long.
    """
    pixels, sizes = images, None
    if tile is not None:
        pictures = list(images)
        sizes = _sizes(pictures)
        pixels = Tiling(tile, sizes).split(pictures)
    pixels = _checked_images(pixels, model)
    count = len(pixels) if sizes is None else len(sizes)
    if len(names) != count:
        raise ValueError(f"names must be {count}, one for each image, got {len(names)}")
    if len(run) > LONGEST_NAME:
        raise ValueError(f"run must have at most {LONGEST_NAME} characters, got {len(run)}")
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    with threads(options.threads):
        copied = exact(model)
        header = Header(
            run, model_hash(model, settings), shape, model.levels, options.delta_bits,
            options.level_bits, options.sigma, options.threads, arithmetic_hash(copied, shape),
            machine(), (), file_names(names, shape, model.levels), sizes,
        )  # fmt: skip
        coded = encode_images(Coder(copied, header.precision), pixels, options.batch, progress)
    checks = np.array([checksum(i, image) for i, image in enumerate(pixels)], np.uint32)
    facts = {**vars(header), "batches": coded.batches}
    return Container(Header(**facts), checks, coded.words), coded


def _sizes(images: Sequence[np.ndarray]) -> tuple[tuple[int, int], ...]:
    """Return the sizes of images to be cut into tiles, of one number of channels."""
    if not images:
        raise ValueError("images must be at least one, got none")
    for image in images:
        if not isinstance(image, np.ndarray) or image.dtype.kind not in "iu":
            got = getattr(image, "dtype", type(image).__name__)
            raise TypeError(f"images must be NumPy arrays of integers, got {got}")
        if image.ndim != 3 or not image.size or max(image.shape) > LARGEST_SIDE:
            raise ValueError(
                f"images must have shapes (C, H, W) with sides of at most {LARGEST_SIDE}, got "
                f"{image.shape}"
            )
    channels = sorted({len(image) for image in images})
    if len(channels) > 1:
        raise ValueError(f"images must have one number of channels, got {channels}")
    return tuple((image.shape[1], image.shape[2]) for image in images)


def _checked_images(images: Any, model: FlowPlusPlus) -> np.ndarray:
    """Return images, or tiles, that the model's code can hold."""
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "iu":
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"images must be a NumPy array of integers, got {got}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images must have shape (N, C, H, W), got {images.shape}")
    if model.image_shape not in (None, images.shape[1:]):
        raise ValueError(
            f"images must have the model's shape {model.image_shape}, got {images.shape[1:]}"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high < model.levels):
        raise ValueError(f"images must have values 0 ... {model.levels - 1}, got {low} ... {high}")
    return images


def decompress(
    container: Container, model: FlowPlusPlus, settings: Any
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the place and the pixels `(C, H, W)` of each image, the last one first.

    Args:
        container: the file.
        model: the model that it was written with.
        settings: its settings as plain values.

    Raises:
        ContainerError: another model or machine arithmetic, before the first image; or bits or
            checksums that are damaged, after the images that are intact. A wrong image is never
            yielded. In a file that is `intact` as a whole, the first wrong image ends it.
    """
    tiling, found = container.header.tiling, dict[int, np.ndarray]()
    image = len(tiling.sizes) - 1
    for place, tile in _decoded_tiles(container, model, settings):
        while place < tiling.tiles_of(image).start:  # tiles of the image before were damaged
            image, found = image - 1, {}
        found[place] = tile
        if len(found) == len(tiling.tiles_of(image)):
            yield image, tiling.joined(image, np.stack([found[i] for i in sorted(found)]))


def _decoded_tiles(
    container: Container, model: FlowPlusPlus, settings: Any
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the place and the pixels of each tile, the last one first; raises as `decompress`."""
    header = container.header
    check_model(header, model, settings)
    with threads(header.threads):
        copied = exact(model)
        if arithmetic_hash(copied, header.shape) != header.arithmetic:
            raise ContainerError(
                f"the file needs the arithmetic of {header.machine} with {header.threads} "
                f"threads, got {machine()}, which rounds otherwise"
            )
        coder, left = Coder(copied, header.precision), header.tiling.count
        wrong: list[int] = []
        try:
            for batch in decode_images(coder, container.words, header.batches, header.shape):
                for image in reversed(batch):
                    left -= 1
                    if checksum(left, image) == container.checksums[left]:
                        yield left, image
                        continue
                    # The stack may be right all the same: the checksum itself may be damaged.
                    wrong.append(left)
                    if container.intact:
                        raise CodingError(WRONG_CHECKSUM)
            if wrong:
                raise CodingError(WRONG_CHECKSUM)
        except (ValueError, ArithmeticError, RootError) as error:
            damaged = [*range(left), *reversed(wrong)]
            raise ContainerError(_damage(container, damaged, error)) from error


def check_model(header: Header, model: FlowPlusPlus, settings: Any) -> None:
    """Require the model that a file was written with.

    Raises:
        ContainerError: another one.
    """
    found = model_hash(model, settings)
    if found != header.model:
        raise ContainerError(
            f"the file needs the model {header.run!r:.100} with hash {header.model:.12}..., got a "
            f"model with hash {found:.12}..."
        )
    if header.levels != model.levels or model.image_shape not in (None, header.shape):
        raise ContainerError(
            f"the file has images {header.shape} of {header.levels} levels, the model "
            f"{model.image_shape} of {model.levels}"
        )


def file_names(names: Sequence[str], shape: tuple[int, int, int], levels: int) -> tuple[str, ...]:
    """Return names of files, which differ: PNG where it can hold the images, else NPY.

    Raises:
        ValueError: a name that is not a path inside a folder, or is that of a folder of others.
    """
    suffix = suffix_of(shape, levels)
    stems = [_stem(PurePosixPath(name), suffix) for name in names]
    given, taken = {comparable_name(stem + suffix) for stem in stems}, set[str]()
    result = []
    for stem in stems:
        candidate, number = stem + suffix, 2
        if comparable_name(candidate) in taken:  # no image gets the name that another one has
            while (key := comparable_name(candidate)) in taken or key in given:
                candidate, number = f"{stem}~{number}{suffix}", number + 1
        check_name(candidate)
        taken.add(comparable_name(candidate))
        result.append(candidate)
    check_apart(result)
    return tuple(result)


def _stem(path: PurePosixPath, suffix: str) -> str:
    return str(path.with_suffix("")) if path.suffix.lower() == suffix else str(path)


def _damage(container: Container, tiles: Sequence[int], error: Exception) -> str:
    """Describe the images whose tiles are at these places, which are in order."""
    header, reason = container.header, str(error)
    ends = container.header.tiling.ends
    damaged = list(dict.fromkeys(bisect.bisect_right(ends, tile) for tile in tiles))
    if container.intact:
        reason += (
            f"; the file is as it was written with {header.machine}: {machine()} may round "
            "otherwise"
        )
    if not damaged:
        return f"bits are left over: {reason}"
    names = [header.names[place] for place in damaged]
    if len(names) > 1 and damaged[-1] - damaged[0] == len(damaged) - 1:
        listed = f"{names[0]} to {names[-1]}"
    else:
        listed = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    return f"{len(names)} of {len(header.names)} images are damaged, {listed}: {reason}"
