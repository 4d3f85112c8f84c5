"""Images that other images are conditioned on: files of the same names in a second folder."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data.decode import (
    FACTS,
    KINDS,
    Decoded,
    Header,
    ImageError,
    Source,
    decode,
    in_parallel,
    read_header,
)
from flowpp.data.decoded import Allocate
from flowpp.data.fit import Target
from flowpp.data.formats import count_of
from flowpp.data.image_files import ImageFiles
from flowpp.data.image_set import Part
from flowpp.data.listing import printable
from flowpp.data.name_table import examples, stem_of

SOURCE = "folder"


class PairedImages:
    """Contexts of the images of a folder.

    They are cropped and resized as their images.

    Args:
        files: The images.
        contexts: Their contexts, of the same names below another folder or in another archive;
            suffixes may differ.
        images: Relative paths of the images that are used.
        target: Form that the images are fitted to.
        skip_bad: Whether images that cannot be read are left out.

    Raises:
        ValueError: Images without a context, contexts of no image, two of one name, grey and
            colour contexts, or contexts of another size than that of their images or a whole part
            of it, the same for all.
    """

    def __init__(
        self,
        files: ImageFiles,
        contexts: ImageFiles,
        images: Sequence[PurePosixPath],
        target: Target,
        *,
        skip_bad: bool,
    ) -> None:
        self.files, self.contexts = files, contexts
        self.facts: Counter[str] = Counter()
        self.pairs = _paired(files, contexts, images)
        self.headers = _headers(files, images, skip_bad=skip_bad)
        headers = _headers(contexts, [self.pairs[i] for i in self.headers], skip_bad=False)
        factor, channels = self._form(headers)
        if target.height % factor or target.width % factor:
            raise ValueError(
                f"data.size must be divisible by {factor}, since the images of {contexts.where} "
                f"have 1/{factor} of their size, got {target.height}x{target.width}"
            )
        self.target = replace(
            target, height=target.height // factor, width=target.width // factor,
            channels=channels, convert=False,
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user on how the contexts were decoded."""
        counts = {fact: self.facts[fact] for fact in FACTS if self.facts[fact]}
        return tuple(
            f"contexts {FACTS[fact].format(count_of(n, 'file'))}" for fact, n in counts.items()
        )

    def _form(self, headers: Mapping[PurePosixPath, Header]) -> tuple[int, int]:
        """Return the factor between images and contexts, and the channels of the contexts."""
        factors: dict[int, PurePosixPath] = {}
        kinds: dict[int, PurePosixPath] = {}
        for image, header in self.headers.items():
            context = self.pairs[image]
            found = headers[context]
            factor = header.height // found.height
            if not factor or (header.height, header.width) != (
                factor * found.height,
                factor * found.width,
            ):
                raise ValueError(
                    f"{self.contexts.who(context)} must have the size of its image, "
                    f"{header.height}x{header.width} pixels, or 1/2, 1/3 ... of it, got "
                    f"{found.height}x{found.width}"
                )
            factors.setdefault(factor, context)
            kinds.setdefault(found.kind, context)
        if not factors:
            raise ValueError(f"none of the images of {self.files.where} can be read")
        for what, seen in (("factor", factors), ("kind", kinds)):
            if len(seen) > 1:
                (one, first), (other, second), *_ = seen.items()
                words = KINDS if what == "kind" else {one: f"1/{one}", other: f"1/{other}"}
                raise ValueError(
                    f"{self.contexts.where} must have images of one "
                    f"{'share of the size' if what == 'factor' else 'kind'}, got {words[one]} "
                    f"({printable(first)}) and {words[other]} ({printable(second)})"
                )
        return next(iter(factors)), next(iter(kinds))

    def arrays(
        self, images: Mapping[Part, Sequence[PurePosixPath]], allocate: Allocate
    ) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
        """Decode the contexts of images, (N, K, h, w) by part; raises ImageError for a bad one."""
        shape = (self.target.channels, self.target.height, self.target.width)
        dtype = np.uint16 if self.target.is_deep else np.uint8
        found = {}
        for part, chosen in images.items():
            found[part] = allocate((len(chosen), *shape), dtype)
            self._fill(found[part], chosen)
        return ContextSpec("images", SOURCE, shape=shape), found

    def _fill(self, pixels: np.ndarray, images: Sequence[PurePosixPath]) -> None:
        place = {self.pairs[image]: (row, image) for row, image in enumerate(images)}

        def read(item: tuple[PurePosixPath, Source]) -> tuple[int, Decoded]:
            context, source = item
            row, image = place[context]
            header = self.headers[image]
            size = (header.height, header.width)
            target = replace(self.target, cropped_as=(self.files.who(image), *size))
            return row, decode(source, self.contexts.who(context), target)

        for row, decoded in in_parallel(read, self.contexts.read(list(place))):
            pixels[row] = decoded.pixels
            self.facts.update(decoded.facts)


def _headers(
    files: ImageFiles, images: Sequence[PurePosixPath], *, skip_bad: bool
) -> dict[PurePosixPath, Header]:
    """Return the headers of images by name; without those that cannot be read, if allowed."""
    found = {}
    for image, source in files.read(images):
        try:
            found[image] = read_header(source, files.who(image))
        except ImageError:
            if not skip_bad:
                raise
    return found


def _paired(
    files: ImageFiles, contexts: ImageFiles, images: Sequence[PurePosixPath]
) -> dict[PurePosixPath, PurePosixPath]:
    """Return the context of each image, by their names without suffixes."""
    by_stem: dict[str, PurePosixPath] = {}
    for context in contexts.listing.images:
        if (former := by_stem.setdefault(_stem(context), context)) != context:
            raise ValueError(
                f"{contexts.where} must have one image of each name, got {printable(former)} and "
                f"{printable(context)}"
            )
    missing = [image for image in images if _stem(image) not in by_stem]
    if missing:
        raise ValueError(
            f"{contexts.where} must have an image of the same name for each image of "
            f"{files.where}, got none for {len(missing):,} of {count_of(len(images), 'image')}: "
            f"{examples(missing)}"
        )
    known = {_stem(image) for image in files.listing.images}
    surplus = [context for stem, context in by_stem.items() if stem not in known]
    if surplus:
        raise ValueError(
            f"{contexts.where} must have images of the names in {files.where} only, got "
            f"{len(surplus):,} of others: {examples(surplus)}"
        )
    return {image: by_stem[_stem(image)] for image in images}


def _stem(image: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(stem_of(image)))
