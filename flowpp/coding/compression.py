"""Compression of images with a model to a `Container`, and back."""

from __future__ import annotations

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
    images: np.ndarray,
    names: Sequence[str],
    *,
    run: str = "",
    options: Options = Options(),  # noqa: B008  (it is frozen)
    progress: Progress = lambda count: None,
) -> tuple[Container, Coded]:
    """Compress images `(N, C, H, W)`.

    Args:
        model: trained model, of any dtype and device; it is copied.
        settings: its settings as plain values, which the file holds a hash of.
        images: integers 0 ... levels - 1, of the model's shape.
        names: a name for each, made into that of a file by `file_names`.
        run: where the model is found, for the file's reader.
        options: widths of bins, batch size and threads.
        progress: called with the number of images of each batch.

    Raises:
        TypeError: images that are not an array of integers.
        ValueError: a conditional model, images of another shape or with other values, another
            number of names, names that are not paths, or a run's name that is too long.
    """
    _check_images(images, names, model)
    if len(run) > LONGEST_NAME:
        raise ValueError(f"run must have at most {LONGEST_NAME} characters, got {len(run)}")
    shape = (images.shape[1], images.shape[2], images.shape[3])
    with threads(options.threads):
        copied = exact(model)
        header = Header(
            run, model_hash(model, settings), shape, model.levels, options.delta_bits,
            options.level_bits, options.sigma, options.threads, arithmetic_hash(copied, shape),
            machine(), (), file_names(names, shape, model.levels),
        )  # fmt: skip
        coded = encode_images(Coder(copied, header.precision), images, options.batch, progress)
    checks = np.array([checksum(i, image) for i, image in enumerate(images)], np.uint32)
    facts = {**vars(header), "batches": coded.batches}
    return Container(Header(**facts), checks, coded.words), coded


def _check_images(images: Any, names: Sequence[str], model: FlowPlusPlus) -> None:
    """Require images that the model's code can hold, and a name for each."""
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
    if len(names) != len(images):
        raise ValueError(f"names must be {len(images)}, one for each image, got {len(names)}")


def decompress(
    container: Container, model: FlowPlusPlus, settings: Any
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the place and the pixels of each image, the last one first.

    Args:
        container: the file.
        model: the model that it was written with.
        settings: its settings as plain values.

    Raises:
        ContainerError: another model or machine arithmetic, before the first image; or bits or
            checksums that are damaged, after the images that are intact. A wrong image is never
            yielded. In a file that is `intact` as a whole, the first wrong image ends it.
    """
    header = container.header
    check_model(header, model, settings)
    with threads(header.threads):
        copied = exact(model)
        if arithmetic_hash(copied, header.shape) != header.arithmetic:
            raise ContainerError(
                f"the file needs the arithmetic of {header.machine} with {header.threads} "
                f"threads, got {machine()}, which rounds otherwise"
            )
        coder, left = Coder(copied, header.precision), len(header.names)
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


def _damage(container: Container, damaged: Sequence[int], error: Exception) -> str:
    """Describe the images at these places, which are in order."""
    header, reason = container.header, str(error)
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
