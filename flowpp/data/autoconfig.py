"""Automatic settings for the preset `small`, from the images in its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from flowpp.config import Config, DataConfig
from flowpp.config.presets import SMALL
from flowpp.data import folder
from flowpp.data.decode import (
    KINDS,
    Header,
    ImageError,
    Kind,
    check_bits,
    opened,
    read_header,
)
from flowpp.data.formats import count_of
from flowpp.data.image_files import ImageFiles

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
    if not (config.data.path or "").strip():
        got = "none" if config.data.path is None else "an empty text"
        raise ValueError(
            f"the preset small needs data.path, a folder or a file of images, got {got}"
        )
    files = folder.find(config.data)
    parts = folder.split_files(files, config.data).parts
    paths = [image for part in parts.values() for image in part]
    headers = _read_headers(files, paths, config.data)
    if not headers:
        raise ValueError(f"none of the {len(paths)} images can be read")
    data, notes = _choose_images(files, headers, config.data)
    same_kind = sum(header.kind == data.channels or data.convert or False
                    for header in headers.values())  # fmt: skip
    count = len(parts["train"]) * same_kind // len(headers)
    config, model_notes = _choose_model(replace(config, data=data), count)
    config, batch_notes = _limit_batch(config, count)
    return config, [*notes, *model_notes, *batch_notes]


Headers = dict[PurePosixPath, Header]


def _read_headers(files: ImageFiles, paths: Sequence[PurePosixPath], data: DataConfig) -> Headers:
    headers = {}
    for path, source in files.read(paths):
        who = files.who(path)
        try:
            header = read_header(source, who)
            is_array = isinstance(source, np.ndarray)
            check_bits(header.bits, data.bits, header.kind, who, pillow=not is_array)
            headers[path] = header
        except (OSError, ValueError) as error:
            if data.skip_bad:
                continue
            raise ValueError(f"{error}; {folder.SKIP_BAD}") from error
    return headers


def _choose_images(
    files: ImageFiles, headers: Headers, data: DataConfig
) -> tuple[DataConfig, list[str]]:
    """Choose channels, size and bits."""
    channels: Kind
    if data.channels is None:
        channels = _common_kind(files, headers, skip_bad=data.skip_bad)
        data = replace(data, channels=channels, convert=data.convert or False)
    else:
        channels = data.channels
        data = replace(data, convert=True if data.convert is None else data.convert)
    used = {path: h for path, h in headers.items() if h.kind == channels or data.convert}
    if not used:
        raise ValueError(f"data.channels {channels} without data.convert needs "
                         f"{KINDS[channels]} images, got none")  # fmt: skip
    sides = [min(header.height, header.width) for header in used.values()]
    data = replace(data, size=data.size or _choose_size(sides))
    notes = [_size_note(list(used.values()), data)]
    if data.bits is None:
        data = replace(data, bits=_used_bits(files, used, data))
    notes.append(f"{1 << (data.bits or 8):,} grey levels")
    return data, notes


def _size_note(headers: list[Header], data: DataConfig) -> str:
    """Return a line on the images' sizes, and how they are made to fit."""
    assert data.height_width is not None and data.channels is not None
    height, width = data.height_width
    sides = [min(header.height, header.width) for header in headers]
    kinds = {header.kind for header in headers}
    kind = KINDS[kinds.pop()] if len(kinds) == 1 else "grey and colour"
    note = f"{count_of(len(headers), f'{kind} image')}"
    if all((header.height, header.width) == (height, width) for header in headers):
        return f"{note}, all of {height}x{width} pixels"
    enlarged = sum(header.height < height or header.width < width for header in headers)
    shape = f"{height}x{width}" if height == width else f"{height}x{width} (height x width)"
    how = {
        "centre": f"resized so that the shorter side is {height}, then centre-cropped to {shape}"
        if height == width
        else f"the largest part of that shape in the middle resized to {shape}",
        "random": f"the largest part of that shape, at a random place, resized to {shape}",
        "stretch": f"stretched to {shape}, which changes their aspect ratio",
    }[data.crop]
    note += f", shorter sides of {min(sides)} to {max(sides)} pixels: {how}"
    return f"{note}, {enlarged:,} of them enlarged" if enlarged else note


def _common_kind(files: ImageFiles, headers: Headers, *, skip_bad: bool) -> Kind:
    counts = Counter(header.kind for header in headers.values())
    (common, count), *others = counts.most_common()
    if others and not skip_bad:
        odd = next(path for path, header in headers.items() if header.kind != common)
        raise ValueError(
            f"{files.who(odd)} is a {KINDS[others[0][0]]} image among {count} {KINDS[common]} "
            f"ones ({others[0][1]} such files); data.channels 1 converts all to grey, "
            "data.channels 3 to colour, data.skip_bad leaves such files out"
        )
    return common


def _choose_size(sides: list[int]) -> int:
    for size in SIZES:
        if sum(side >= size for side in sides) >= MIN_SHARE * len(sides):
            return size
    raise ValueError(
        f"images must have at least {SIZES[-1]} pixels a side, got {min(sides)}; data.size "
        f"{SIZES[-1]} enlarges smaller ones"
    )


def _used_bits(files: ImageFiles, headers: Headers, data: DataConfig) -> int:
    """Return 8, or fewer if the lowest bits are zero in images that are not resized."""
    fits = all((h.height, h.width) == data.height_width for h in headers.values())
    kept = all(h.kind == data.channels for h in headers.values())
    if not (fits and kept):
        return 8  # resizing and conversion create new levels
    used = np.uint8(0)
    sample = list(headers)[:: max(1, len(headers) // BITS_SAMPLE)]
    for path, source in files.read(sample):
        try:
            with opened(source, files.who(path)) as image:
                used |= np.bitwise_or.reduce(np.asarray(image.convert("RGB")), axis=None)
        except ImageError as error:  # its header was intact
            if not data.skip_bad:
                raise ImageError(f"{error}; {folder.SKIP_BAD}") from error
    zeros = next((bit for bit in range(8) if int(used) >> bit & 1), 0)
    return 8 - zeros


def _choose_model(config: Config, count: int) -> tuple[Config, list[str]]:
    """Choose the layout by image size and dropout by the number of training images."""
    if config.model != SMALL.model:
        return config, []
    sides = config.data.height_width or ()
    nearest = next(
        (known for known in SIZES if all(side >= known and side % known == 0 for side in sides)),
        SIZES[-1],
    )
    dropout = 0.2 if count < MANY_IMAGES else 0.0
    flow = replace(config.model.flow, layout=LAYOUTS[nearest], dropout=dropout)
    dequantizer = replace(config.model.dequantizer, dropout=dropout)
    model = replace(config.model, flow=flow, dequantizer=dequantizer)
    note = f'layout "{flow.layout}", {flow.filters} filters, dropout {dropout}'
    return replace(config, model=model), [note]


def _limit_batch(config: Config, count: int) -> tuple[Config, list[str]]:
    """Limit the preset's batch size to the number of training images."""
    if not config.training.batch_size == SMALL.training.batch_size > count:
        return config, []
    training = replace(config.training, batch_size=count)
    return replace(config, training=training), [f"batches of all {count} training images"]
