"""Automatic settings for the preset `small`, from the images in its folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.config import Config
from flowpp.config.presets import SMALL
from flowpp.data import folder
from flowpp.data.decode import KINDS, Kind, kind_of, opened

LAYOUTS = {
    32: "squeeze, checkerboard 4, channels 2, squeeze, checkerboard 2, channels 2",
    16: "checkerboard 2, squeeze, checkerboard 2, channels 2, squeeze, channels 2",
    8: "checkerboard 2, squeeze, channels 2, checkerboard 2",
}
"""Layout by image size, for a small model on a CPU; largest size first."""
SIZES = tuple(LAYOUTS)
MIN_SHARE = 0.95
"""Share of the images that must be at least as large as the chosen size."""
BITS_SAMPLE = 200
"""Number of images in which the used bits are determined."""
MANY_IMAGES = 5000
"""Number of images above which dropout is not needed."""


def configure(config: Config) -> tuple[Config, list[str]]:
    """Choose size, channels, bits, layout and batch sizes of `small` by its images.

    Only settings that still have the preset's values are chosen.

    Returns:
        The settings, unchanged for other presets, and a description of each choice.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path, too few or too small images, or, without `data.skip_bad`, an
            unreadable file or a mixture of grey and colour images.
    """
    if config.preset != SMALL.preset or config.data.source != "folder":
        return config, []
    if config.data.path is None:
        raise ValueError("the preset small needs --data.path FOLDER, got none")
    train, test = folder.split(folder.find(config.data))
    headers = _read_headers([*train, *test], skip_bad=config.data.skip_bad)
    if not headers:
        raise ValueError(f"none of the {len(train) + len(test)} images can be read")
    channels = _common_kind(headers, skip_bad=config.data.skip_bad)
    sides = [header.side for header in headers.values() if header.kind == channels]
    size = config.data.size or _choose_size(sides)
    data = replace(config.data, channels=channels, size=size)
    enlarged = sum(side < size for side in sides)
    note = (
        f"{len(sides)} {KINDS[channels]} images, shorter sides of {min(sides)} to {max(sides)} "
        f"pixels: cropped to {size}x{size}"
    )
    notes = [f"{note}, {enlarged} of them enlarged" if enlarged else note]
    if data.bits == SMALL.data.bits:
        data = replace(data, bits=_used_bits(headers, channels, size))
        notes.append(f"{1 << data.bits} grey levels")
    count = len(train) * len(sides) // len(headers)
    config, model_notes = _choose_model(replace(config, data=data), size, count)
    config, batch_notes = _limit_batches(config, count)
    return config, [*notes, *model_notes, *batch_notes]


@dataclass(frozen=True)
class _Header:
    """Properties of an image known before it is decoded."""

    kind: Kind
    side: int
    is_square: bool


def _read_headers(paths: list[Path], *, skip_bad: bool) -> dict[Path, _Header]:
    headers = {}
    for path in paths:
        try:
            with opened(path, str(path)) as image:
                width, height = image.size
                headers[path] = _Header(
                    kind_of(image, str(path)), min(width, height), width == height
                )
        except (OSError, ValueError) as error:
            if skip_bad:
                continue
            raise ValueError(f"{error}; --data.skip_bad leaves such files out") from error
    return headers


def _common_kind(headers: dict[Path, _Header], *, skip_bad: bool) -> Kind:
    counts = Counter(header.kind for header in headers.values())
    (common, count), *others = counts.most_common()
    if others and not skip_bad:
        odd = next(path for path, header in headers.items() if header.kind != common)
        raise ValueError(
            f"{odd} is a {KINDS[others[0][0]]} image among {count} {KINDS[common]} ones "
            f"({others[0][1]} such files); --data.skip_bad leaves such files out"
        )
    return common


def _choose_size(sides: list[int]) -> int:
    for size in SIZES:
        if sum(side >= size for side in sides) >= MIN_SHARE * len(sides):
            return size
    raise ValueError(f"images must have at least {SIZES[-1]} pixels a side, got {min(sides)}")


def _used_bits(headers: dict[Path, _Header], channels: int, size: int) -> int:
    """Return 8, or fewer if the lowest bits are zero in images that are not resized."""
    chosen = [(path, header) for path, header in headers.items() if header.kind == channels]
    if not all(header.side == size and header.is_square for _, header in chosen):
        return 8  # resizing creates new levels
    used = np.uint8(0)
    for path, _ in chosen[:: max(1, len(chosen) // BITS_SAMPLE)]:
        with opened(path, str(path)) as image:
            used |= np.bitwise_or.reduce(np.asarray(image.convert("RGB")), axis=None)
    zeros = next((bit for bit in range(8) if int(used) >> bit & 1), 0)
    return 8 - zeros


def _choose_model(config: Config, size: int, count: int) -> tuple[Config, list[str]]:
    """Choose the layout by image size and dropout by the number of training images."""
    if config.model != SMALL.model:
        return config, []
    nearest = next((known for known in SIZES if size >= known and size % known == 0), SIZES[-1])
    dropout = 0.2 if count < MANY_IMAGES else 0.0
    flow = replace(config.model.flow, layout=LAYOUTS[nearest], dropout=dropout)
    dequantizer = replace(config.model.dequantizer, dropout=dropout)
    model = replace(config.model, flow=flow, dequantizer=dequantizer)
    note = f'layout "{flow.layout}", {flow.filters} filters, dropout {dropout}'
    return replace(config, model=model), [note]


def _limit_batches(config: Config, count: int) -> tuple[Config, list[str]]:
    """Limit the preset's batch sizes to the number of training images."""
    changes: dict[str, Any] = {
        name: count
        for name in ("batch_size", "init_batch_size")
        if getattr(config.training, name) == getattr(SMALL.training, name) > count
    }
    if not changes:
        return config, []
    return replace(config, training=replace(config.training, **changes)), [
        f"batches of all {count} images"
    ]
