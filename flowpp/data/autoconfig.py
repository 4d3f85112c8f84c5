"""The preset `small`: settings that fit a folder of images, and what was chosen in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.config import Config
from flowpp.config.presets import SMALL
from flowpp.data import folder
from flowpp.data.decode import KINDS, Kind, kind_of, opened

SIZES = (32, 16, 8)
"""What a small model on a CPU can learn."""
REACHED_BY = 0.95
"""The size is the largest that this part of the images reaches without being enlarged."""
LAYOUTS = {
    32: "squeeze, checkerboard 4, channels 2, squeeze, checkerboard 2, channels 2",
    16: "checkerboard 2, squeeze, checkerboard 2, channels 2, squeeze, channels 2",
    8: "checkerboard 2, squeeze, channels 2, checkerboard 2",
}
LOOKED_AT = 200
"""So many images are looked at for the grey levels that they have."""


def configure(config: Config) -> tuple[Config, list[str]]:
    """Fill in what a folder's images decide; other presets are returned as they are.

    A setting that differs from the preset's own was said by the user, and stays.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no folder was named; too few or too small images; without `data.skip_bad` an
            unreadable file, or grey images among colour ones. The message names it.
    """
    if config.preset != SMALL.preset or config.data.source != "folder":
        return config, []
    if config.data.path is None:
        raise ValueError("the preset small needs --data.path FOLDER, got none")
    train, test = folder.split(folder.find(config.data.path))
    looks = _look([*train, *test], skip_bad=config.data.skip_bad)
    if not looks:
        raise ValueError(f"none of the {len(train) + len(test)} images can be read")
    channels = _kind(looks, skip_bad=config.data.skip_bad)
    sides = [look.side for look in looks.values() if look.kind == channels]
    size = config.data.size or _size(sides)
    data = replace(config.data, channels=channels, size=size)
    enlarged = sum(side < size for side in sides)
    notes = [
        f"{len(sides)} {KINDS[channels]} images, shorter sides of {min(sides)} to {max(sides)} "
        f"pixels: cut to {size}x{size}" + (f", {enlarged} of them enlarged" if enlarged else "")
    ]
    if data.bits == SMALL.data.bits:
        data = replace(data, bits=_bits(looks, channels, size))
        notes.append(f"{1 << data.bits} grey levels")
    config, more = _model(replace(config, data=data), size, len(train) * len(sides) // len(looks))
    return config, [*notes, *more]


class _Look:
    """What a file says of its image before it is decoded."""

    def __init__(self, kind: Kind, side: int, longer: int) -> None:
        self.kind, self.side, self.square = kind, side, side == longer


def _look(paths: list[Path], *, skip_bad: bool) -> dict[Path, _Look]:
    looks = {}
    for path in paths:
        try:
            with opened(path, str(path)) as image:
                looks[path] = _Look(kind_of(image, str(path)), min(image.size), max(image.size))
        except (OSError, ValueError) as error:
            if skip_bad:
                continue
            raise ValueError(f"{error}; --data.skip_bad leaves such files out") from error
    return looks


def _kind(looks: dict[Path, _Look], *, skip_bad: bool) -> Kind:
    counts = Counter(look.kind for look in looks.values())
    (most, _), *others = counts.most_common()
    if others and not skip_bad:
        odd = next(path for path, look in looks.items() if look.kind != most)
        raise ValueError(
            f"{odd} is a {KINDS[others[0][0]]} image among {counts[most]} {KINDS[most]} ones "
            f"({others[0][1]} such files); --data.skip_bad leaves such files out"
        )
    return most


def _size(sides: list[int]) -> int:
    for size in SIZES:
        if sum(side >= size for side in sides) >= REACHED_BY * len(sides):
            return size
    raise ValueError(
        f"the images are too small: needed {SIZES[-1]} pixels a side, "
        f"the smallest has {min(sides)}"
    )


def _bits(looks: dict[Path, _Look], channels: int, size: int) -> int:
    """8, or fewer where the lowest bits are zero in images that are used as they are."""
    chosen = [(path, look) for path, look in looks.items() if look.kind == channels]
    if not all(look.side == size and look.square for _, look in chosen):
        return 8  # resizing makes new levels
    seen = np.uint8(0)
    for path, _ in chosen[:: max(1, len(chosen) // LOOKED_AT)]:
        with opened(path, str(path)) as image:
            seen |= np.bitwise_or.reduce(np.asarray(image.convert("RGB")), axis=None)
    zeros = next((bit for bit in range(8) if int(seen) >> bit & 1), 0)
    return 8 - zeros


def _model(config: Config, size: int, images: int) -> tuple[Config, list[str]]:
    """Layout by size; dropout, and batches no larger than the data, by the number of images."""
    notes = []
    if config.model == SMALL.model:
        nearest = next(
            (known for known in SIZES if size >= known and size % known == 0), SIZES[-1]
        )
        dropout = 0.2 if images < 5000 else 0.0
        flow = replace(config.model.flow, layout=LAYOUTS[nearest], dropout=dropout)
        dequantizer = replace(config.model.dequantizer, dropout=dropout)
        config = replace(config, model=replace(config.model, flow=flow, dequantizer=dequantizer))
        notes.append(f'layout "{flow.layout}", {flow.filters} filters, dropout {dropout}')
    changes: dict[str, Any] = {
        name: images
        for name in ("batch_size", "init_batch_size")
        if getattr(config.training, name) == getattr(SMALL.training, name) > images
    }
    if changes:
        config = replace(config, training=replace(config.training, **changes))
        notes.append(f"batches of all {images} images")
    return config, notes
