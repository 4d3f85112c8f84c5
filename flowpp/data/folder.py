"""Any folder of images, such as CelebA-HQ or your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.config import DataConfig
from flowpp.data.decode import FACTS, Decoded, ImageError, Source, decode, in_parallel
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.duplicates import duplicates_note
from flowpp.data.fit import Target
from flowpp.data.formats import count_of, suffixes
from flowpp.data.image_files import CONTENTS, ImageFiles, open_images
from flowpp.data.image_set import ImageSet
from flowpp.data.listing import printable
from flowpp.data.named_contexts import context_notes, files_of_contexts, find_contexts
from flowpp.data.split_names import Role
from flowpp.data.splits import Split, split
from flowpp.data.value_range import value_range_note

SKIP_BAD = "data.skip_bad leaves such files out"
PURPOSES: dict[Role, str] = {"train": "train on", "valid": "validate on", "test": "hold out"}


def load(config: DataConfig, allocate: Allocate = in_memory) -> ImageSet:
    """Load the images below a folder, upright, resized and cropped to `config.size`.

    Folders such as `train` and `test`, if present, are the split. Otherwise every tenth image, in
    the order of their paths, is held out.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path or size, no images for a part, an ambiguous split, or, without
            `config.skip_bad`, a file that is not an image of `config.channels` channels; labels
            or contexts that do not belong to these images.
    """
    config.required_path(CONTENTS)
    target = target_of(config)
    found = find(config)
    chosen = split_files(found, config)
    named = find_contexts(found, chosen.parts, config, target)
    kept: dict[Role, list[PurePosixPath]] = {}
    skipped: list[str] | None = [] if config.skip_bad else None
    facts: Counter[str] = Counter()
    arrays: dict[Role, np.ndarray] = {}
    for part, images in chosen.parts.items():
        shape = (len(images), target.channels, target.height, target.width)
        pixels = allocate(shape, np.uint16 if target.is_deep else np.uint8)
        arrays[part], kept[part] = _read(found, images, target, pixels, skipped, facts)
        if not len(arrays[part]):
            raise ValueError(
                f"folder: at least one image to {PURPOSES[part]} is needed, "
                f"got 0 after skipping {len(skipped or ())}"
            )
    notes = [*found.listing.notes(), *split_notes(chosen)]
    notes += [text.format(count_of(facts[fact], "file")) for fact, text in FACTS.items()
              if facts[fact]]  # fmt: skip
    levels = 1 << 16 if target.is_deep else 256
    notes += value_range_note(arrays["train"], levels)
    notes += duplicates_note(arrays)
    context, contexts = (None, {}) if named is None else named.arrays(kept, allocate)
    if named is not None and context is not None:
        notes += context_notes(named, context, contexts, arrays["train"])
    return ImageSet(
        found.name,
        arrays["train"],
        arrays["test"],
        levels,
        tuple(skipped or ()),
        arrays.get("valid"),
        chosen.origins,
        tuple(notes),
        context,
        contexts,
    )


def files(config: DataConfig) -> list[Path]:
    """Return all files that `load` reads; raises as it does for settings and folders."""
    config.required_path(CONTENTS)
    target_of(config)
    found = find(config)
    chosen = split_files(found, config)
    images = found.paths([image for part in chosen.parts.values() for image in part])
    return [*images, *files_of_contexts(config)]


def target_of(config: DataConfig) -> Target:
    """Return the form that the settings ask for.

    Raises:
        ValueError: No size.
    """
    if config.height_width is None:
        raise ValueError("folder needs data.size, got none")
    convert = config.channels is not None if config.convert is None else config.convert
    return Target(*config.height_width, config.channels or 3, convert, config.bits, config.crop)


def find(config: DataConfig) -> ImageFiles:
    """Open the folder at `config.path`.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path.
    """
    return open_images(config.required_path(CONTENTS))


def split_files(files: ImageFiles, config: DataConfig) -> Split:
    """Return the images by purpose.

    Raises:
        ValueError: None to train on or to hold out, or an ambiguous split.
    """
    chosen = split(files.where, files.listing.images, config.split)
    if not chosen.parts["train"] or not chosen.parts["test"]:
        found = len(files.listing.images)
        hints = ["more images are needed"] if found else [f"known suffixes: {_suffixes()}"]
        raise ValueError(
            f"folder: {files.where} must have images to train on and to hold out, "
            f"got {len(chosen.parts['train'])} and {len(chosen.parts['test'])}; "
            f"{'; '.join([*files.listing.notes(), *hints])}"
        )
    return chosen


def split_notes(chosen: Split) -> list[str]:
    """Return a line on images outside the folders of the split, if there are any."""
    if not chosen.unused:
        return []
    return [f"{count_of(chosen.unused, 'image')} outside the folders of the split not used"]


def _suffixes() -> str:
    return ", ".join(sorted(suffixes()))


def _read(
    files: ImageFiles,
    images: Sequence[PurePosixPath],
    target: Target,
    pixels: np.ndarray,
    skipped: list[str] | None,
    facts: Counter[str],
) -> tuple[np.ndarray, list[PurePosixPath]]:
    """Decode files into the first rows of `pixels`, and return those and the files' names.

    The reasons for bad files are appended to `skipped`, or raised if it is None.
    """

    def read(item: tuple[PurePosixPath, Source]) -> tuple[PurePosixPath, Decoded | ImageError]:
        image, source = item
        try:
            return image, decode(source, files.who(image), target)
        except ImageError as error:
            return image, error

    place = {image: index for index, image in enumerate(images)}
    good = np.zeros(len(images), bool)
    for image, decoded in in_parallel(read, files.read(images)):
        if isinstance(decoded, Decoded):
            pixels[place[image]], good[place[image]] = decoded.pixels, True
            facts.update(decoded.facts)
        elif skipped is None:
            raise ImageError(f"{decoded}; {SKIP_BAD}") from decoded
        else:
            skipped.append(printable(decoded))
    return _moved_together(pixels, good), [images[row] for row in map(int, np.flatnonzero(good))]


def _moved_together(pixels: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Move the good rows to the beginning, in place and in order."""
    for row, origin in enumerate(np.flatnonzero(good)):
        if row != origin:
            pixels[row] = pixels[origin]
    return pixels[: good.sum()]
