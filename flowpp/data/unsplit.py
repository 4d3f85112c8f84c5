"""All images of a folder or file, in the form that a trained model needs, without a split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data.decode import FACTS, Decoded, ImageError, Source, decode, in_parallel
from flowpp.data.fit import Target
from flowpp.data.formats import count_of, suffixes
from flowpp.data.image_files import FolderFiles, ImageFiles, open_images
from flowpp.data.image_set import ImageSet
from flowpp.data.listing import Listing, printable

UNREAD = "not read: no image, or of a kind that is not read"


@dataclass(frozen=True, eq=False)
class NamedImages:
    """Images and their names.

    Args:
        name: Name of the folder or file.
        names: Paths below the folder or in the file, one for each image.
        pixels: (N, C, H, W), integers 0 ... levels - 1.
        levels: Number of values of a channel.
        skipped: Names of files left out because they are bad, with the reason.
        unread: Names of files of kinds that are not read.
        notes: Lines for the user on how the images were read.
        files: Where they were read from.
        paths: Their paths there, of which `names` are printable.
        target: Form that they were fitted to.
    """

    name: str
    names: tuple[str, ...]
    pixels: np.ndarray
    levels: int
    skipped: dict[str, str]
    unread: tuple[str, ...]
    notes: tuple[str, ...]
    files: ImageFiles
    paths: tuple[PurePosixPath, ...]
    target: Target

    def as_image_set(
        self, context: ContextSpec | None = None, contexts: np.ndarray | None = None
    ) -> ImageSet:
        """Return a data set whose training and test images are these.

        Args:
            context: Description of their contexts, if they have some.
            contexts: One for each image.
        """
        reasons = tuple(self.skipped.values())
        both = {} if contexts is None else {"train": contexts, "test": contexts}
        return ImageSet(
            self.name, self.pixels, self.pixels, self.levels, reasons,
            notes=self.notes, context=context, contexts=both,
        )  # fmt: skip

    def left_out(self) -> dict[str, str]:
        """Return the reason by name for each file without an image."""
        return {**self.skipped, **{name: UNREAD for name in self.unread}}


def load_all(
    path: Path,
    config: DataConfig,
    image_shape: tuple[int, int, int],
    levels: int,
    *,
    skip_bad: bool = False,
) -> NamedImages:
    """Load all images, resized, cropped and reduced as those that a model was trained on.

    Args:
        path: A folder, a file of images, see `open_images`, or a single image.
        config: Settings of the training's data: how to crop, and whether to convert.
        image_shape: (channels, height, width) of the model.
        levels: Number of values of a channel of the model. Images of 16 bits are reduced to 8,
            and to a smaller power of 2; for other numbers, such as 17, values must be below it.
        skip_bad: Leave out files that are no images of this kind, instead of raising an error.

    Raises:
        FileNotFoundError: Nothing at `path`.
        ValueError: No images, a bad file without `skip_bad`, or values that are too large.
    """
    files = opened(path.expanduser())
    if not files.listing.images:
        reasons = "; ".join(["got none", *files.listing.notes()])
        raise ValueError(f"{files.where} must have images, {reasons}")
    target = _target(config, image_shape, levels)
    read, skipped, facts = _read(files, target, skip_bad=skip_bad)
    if not read:
        reason = next(iter(skipped.values()))
        raise ValueError(f"none of the {len(skipped)} images of {files.where} is usable: {reason}")
    pixels = with_levels(np.stack(list(read.values())), levels, files.where)
    lines = [*files.listing.notes()]
    lines += [text.format(count_of(facts[fact], "file")) for fact, text in FACTS.items()
              if facts[fact]]  # fmt: skip
    if skipped:
        number = count_of(len(skipped), "file")
        lines.append(f"{number} skipped, the first: {next(iter(skipped.values()))}")
    return NamedImages(
        files.name, tuple(map(printable, read)), pixels, levels, skipped,
        tuple(map(printable, files.listing.others)), tuple(map(printable, lines)),
        files, tuple(read), target,
    )  # fmt: skip


def opened(path: Path) -> ImageFiles:
    """Open a single image, a folder, or a file of images; raises as `open_images`."""
    if path.is_file() and path.suffix.lower() in suffixes():
        return FolderFiles(path.parent, Listing((PurePosixPath(path.name),)))
    return open_images(path)


def _target(config: DataConfig, image_shape: tuple[int, int, int], levels: int) -> Target:
    channels, height, width = image_shape
    convert = config.channels is not None if config.convert is None else config.convert
    bits = levels.bit_length() - 1 if levels > 256 else config.bits or 8
    return Target(height, width, channels, convert, bits, config.crop, of_model=True)


def _read(
    files: ImageFiles, target: Target, *, skip_bad: bool
) -> tuple[dict[PurePosixPath, np.ndarray], dict[str, str], Counter[str]]:
    """Return pixels by name in the order of the listing, reasons for bad files, and facts."""

    def read(item: tuple[PurePosixPath, Source]) -> tuple[PurePosixPath, Decoded | ImageError]:
        image, source = item
        try:
            return image, decode(source, files.who(image), target)
        except ImageError as error:
            return image, error

    found: dict[PurePosixPath, np.ndarray] = {}
    skipped: dict[str, str] = {}
    facts: Counter[str] = Counter()
    images = files.listing.images
    for image, decoded in in_parallel(read, files.read(images)):
        if isinstance(decoded, Decoded):
            found[image] = decoded.pixels
            facts.update(decoded.facts)
        elif skip_bad:
            skipped[printable(image)] = printable(decoded)
        else:
            raise ValueError(
                f"{printable(decoded)}; --skip-bad leaves such files out"
            ) from decoded
    return {image: found[image] for image in images if image in found}, skipped, facts


def with_levels(pixels: np.ndarray, levels: int, where: str) -> np.ndarray:
    """Reduce pixels of 8 or 16 bits to the levels of a model.

    Args:
        pixels: uint8 or uint16.
        levels: Number of values of a channel; unless it is a power of 2, the values must be
            below it already.
        where: Origin of the pixels, for messages.

    Raises:
        ValueError: Values that are too large.
    """
    full = 1 << (8 * pixels.dtype.itemsize)
    if levels == full:
        return pixels
    if levels & (levels - 1) == 0:
        dtype = np.uint8 if levels <= 256 else np.uint16
        return (pixels >> (full.bit_length() - levels.bit_length())).astype(dtype)
    if pixels.max() >= levels:
        raise ValueError(
            f"{where} must have values 0 ... {levels - 1} for this model, got {pixels.max()}"
        )
    return pixels
