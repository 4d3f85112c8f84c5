"""python -m flowpp.compress RUN IMAGES... --out FILE.fpp: lossless compression with a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.data.formats import count_of
from flowpp.runtime.files import atomic_write, check_can_be_written, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    import numpy as np

    from flowpp.coding.container import Container
    from flowpp.coding.sequence import Coded
    from flowpp.runs.open_model import OpenedModel


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory, checkpoint file, or name of a pretrained model."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGES")]
    """Folders of images, images, or files of them: zip, tar, .npy, .npz, .pt, .safetensors,
    .parquet. All must be of the model's kind, grey or colour, and without --tiles of its size."""
    out: Annotated[Path, arg(metavar="FILE")]
    """File to write, which ends in .fpp; if it is there, it is replaced."""
    tiles: bool = False
    """Cut images of any size into tiles of the model's size, of which the last ones are filled up
    with the last row and column."""
    verify: bool = True
    """Decode the file and compare each image before it is written."""
    delta_bits: int = 14
    """Numbers are rounded to multiples of 2^-DELTA_BITS. One more costs one initial bit for each
    number; fewer lengthen each image."""
    level_bits: int = 12
    """The dequantization noise is rounded to multiples of 2^-LEVEL_BITS."""
    batch_size: int = 8
    """Largest number of images computed at once; the first batches are smaller."""
    threads: int = 1
    """Number of threads to compute with, which decompression uses too."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint of a run directory: the newest, or the best on held-out images."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        if not self.images:
            raise ValueError("IMAGES must name at least one folder or file")
        if self.out.suffix.lower() != ".fpp" or self.out.is_dir():
            raise ValueError(f"out must be a file that ends in .fpp, got {self.out}")
        check_can_be_written(self.out)
        limits = {"delta_bits": (1, 26), "level_bits": (6, 16), "batch_size": (1, 4096),
                  "threads": (1, 256)}  # fmt: skip
        for name, (low, high) in limits.items():
            checks.at_least(name, getattr(self, name), low)
            if getattr(self, name) > high:
                raise ValueError(f"{name} must be at most {high}, got {getattr(self, name)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compress images, verify the result, and write it."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.compress",
            description="Compress images without loss by local bits-back coding with a model.",
        )
        from flowpp.coding.arithmetic import exact  # imports torch
        from flowpp.coding.stack import require_constriction
        from flowpp.data.exact import load_exact
        from flowpp.runs.open_model import open_model

        try:
            require_constriction()
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error
        opened = open_model(arguments.run, which=arguments.checkpoint, warn=warn)
        exact(opened.model)
        names, images = load_exact(
            arguments.images, opened.image_shape, opened.model.levels, any_size=arguments.tiles
        )
        make_writable_folder(arguments.out.parent)
    begin = time.monotonic()
    with user_errors():
        container, coded = _compressed(arguments, opened, names, images)
    encoding, begin = time.monotonic() - begin, time.monotonic()
    if arguments.verify:
        _verify(opened, container, images)
    decoding = time.monotonic() - begin
    content = container.to_bytes()
    with user_errors(), atomic_write(arguments.out) as temporary:
        temporary.write_bytes(content)
    print("\n".join(_summary(opened, images, container, coded, len(content))))
    verified = f", {decoding:.1f} s to decode: every image is exact" if arguments.verify else ""
    print(f"time      {encoding:.1f} s to encode{verified}")
    print(f"written   {arguments.out}")


def _compressed(
    arguments: Arguments, opened: OpenedModel, names: tuple[str, ...], images: list[np.ndarray]
) -> tuple[Container, Coded]:
    import numpy as np

    from flowpp.coding.compression import Options, compress
    from flowpp.coding.tiles import Tiling
    from flowpp.config.serialization import to_dict
    from flowpp.evaluation.progress import progress_bar

    options = Options(
        arguments.delta_bits, arguments.level_bits, batch=arguments.batch_size,
        threads=arguments.threads,
    )  # fmt: skip
    tile = opened.image_shape[1:]
    count = Tiling(tile, tuple(image.shape[1:] for image in images)).count
    with progress_bar(count, silent=False) as advance:
        return compress(
            opened.model, to_dict(opened.config.model),
            images if arguments.tiles else np.stack(images), names,
            tile=tile if arguments.tiles else None, run=str(arguments.run), options=options,
            progress=advance,
        )  # fmt: skip


def _verify(opened: OpenedModel, container: Container, images: list[np.ndarray]) -> None:
    """Decode the file's content, and compare.

    Raises:
        RuntimeError: an image that differs, which is a bug.
    """
    from flowpp.coding.compression import decompress
    from flowpp.coding.container import Container
    from flowpp.config.serialization import to_dict
    from flowpp.evaluation.progress import progress_bar

    read, right = Container.from_bytes(container.to_bytes(), "the compressed file"), 0
    with progress_bar(len(images), silent=False) as advance:
        for place, image in decompress(read, opened.model, to_dict(opened.config.model)):
            right += bool((image == images[place]).all())
            advance(1)
    if right != len(images):
        raise RuntimeError(f"{len(images) - right} of {len(images)} images are decoded wrongly")


def _summary(
    opened: OpenedModel, images: list[np.ndarray], container: Container, coded: Coded, size: int
) -> list[str]:
    """Return lines with bits per dimension of the file and its parts."""
    from flowpp.coding.comparison import bits_of_other_formats
    from flowpp.evaluation.importance import importance_log_probs
    from flowpp.objective import bits_per_dim

    tiles, unit = container.header.tiling.split(images), "tile"
    if container.header.sizes is None:
        unit = "image"
    numbers, dims = sum(image.size for image in images), tiles[0].size
    plain = [bits for bits, batch in zip(coded.lengths, coded.batches, strict=True) if not batch]
    chosen = tiles[coded.by_model]
    lines = [
        f"bits/dim of {count_of(len(images), 'image')}",
        f"  file      {8 * size / numbers:.4f}  all of its {size:,} bytes",
    ]
    if plain:
        lines.append(
            f"  initial   {sum(plain) / len(plain) / dims:.4f}  of "
            f"{count_of(len(plain), unit)} coded without the model"
        )
    if len(chosen):
        net = (sum(coded.lengths) - sum(plain)) / len(chosen) / dims
        import torch

        nats = importance_log_probs(opened.model, chosen, 1)[1]
        bound = bits_per_dim(torch.from_numpy(nats), dims).mean()
        lines.append(f"  net       {net:.4f}  of {count_of(len(chosen), f'other {unit}')}")
        lines.append(f"  bound     {bound:.4f}  of them, with one sample")
    overhead = 8 * size - 32 * len(container.words)
    lines.append(f"  overhead  {overhead / numbers:.4f}  names, settings and checksums")
    for name, bits in bits_of_other_formats(images, opened.model.levels).items():
        lines.append(f"  {name:9} {bits / numbers:.4f}  a file for each image")
    return lines


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
