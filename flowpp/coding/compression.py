"""Compression of images with a model to a `Container`, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from flowpp.model import FlowPlusPlus

from .arithmetic import arithmetic_hash, exact, machine, model_hash, threads
from .container import (
    LONGEST_NAME,
    Container,
    ContainerError,
    Header,
    check_apart,
    check_name,
    checksum,
    comparable_name,
)
from .images import Coder
from .sequence import Coded, decode_images, encode_images
from .stack import CodingError

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Options:
    """How to compress.

    Args:
        delta_bits: -log2 of the width of a bin of numbers on the real line.
        level_bits: log2 of the number of bins of the dequantization noise.
        sigma: standard deviation of the noise, in bins.
        batch: largest number of images computed at once.
        threads: number of threads, which the file's reader uses too.
    """

    delta_bits: int = 14
    level_bits: int = 12
    sigma: float = 1.0
    batch: int = 8
    threads: int = 1


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
        images: integers 0 ... levels - 1.
        names: a name for each, made into that of a file by `file_names`.
        run: where the model is found, for the file's reader.
        options: widths of bins, batch size and threads.
        progress: called with the number of images of each batch.

    Raises:
        ValueError: a conditional model, options out of range, names that are not paths, or a run's
            name that is too long.
    """
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


def decompress(
    container: Container, model: FlowPlusPlus, settings: Any
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the place and the pixels of each image, the last one first.

    Args:
        container: the file.
        model: the model that it was written with.
        settings: its settings as plain values.

    Raises:
        ContainerError: another model or machine arithmetic, before the first image; or bits that
            are damaged, after the images that are intact. A wrong image is never yielded.
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
        coder, end = Coder(copied, header.precision), len(header.names)
        try:
            for batch in decode_images(coder, container.words, header.batches, header.shape):
                begin = end - len(batch)
                for place in reversed(range(begin, end)):
                    image = batch[place - begin]
                    if checksum(place, image) != container.checksums[place]:
                        raise CodingError("its checksum is wrong")
                    end = place
                    yield place, image
        except (ValueError, ArithmeticError) as error:
            raise ContainerError(_damage(header, end, error)) from error


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
    suffix = ".png" if shape[0] in (1, 3) and levels <= 256 else ".npy"
    taken: set[str] = set()
    result = []
    for name in names:
        path = PurePosixPath(name)
        stem = str(path.with_suffix("")) if path.suffix.lower() == suffix else str(path)
        candidate, number = stem + suffix, 2
        while comparable_name(candidate) in taken:
            candidate, number = f"{stem}~{number}{suffix}", number + 1
        check_name(candidate)
        taken.add(comparable_name(candidate))
        result.append(candidate)
    check_apart(result)
    return tuple(result)


def _damage(header: Header, end: int, error: Exception) -> str:
    first, last = header.names[0], header.names[end - 1] if end else ""
    lost = f"{end} of {len(header.names)} images are damaged, {first} to {last}"
    return f"{lost if end else 'bits are left over'}: {error}"
