"""Images with equal pixels, within the training images and across the split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from flowpp.data.formats import count_of
from flowpp.data.image_set import LABELS
from flowpp.data.split_names import Role


def duplicates_note(parts: Mapping[Role, np.ndarray]) -> list[str]:
    """Return lines that count duplicates; none are removed.

    Args:
        parts: Images of shape (N, C, H, W) by part: `train`, `test`, perhaps `valid`.
    """
    train = _hashes(parts["train"])
    known = set(train)
    lines = []
    held_out: tuple[Role, ...] = ("valid", "test")
    for part in held_out:
        if part in parts:
            found = sum(digest in known for digest in _hashes(parts[part]))
            if found:
                lines.append(
                    f"{count_of(found, f'{LABELS[part]} image')} of {len(parts[part]):,} "
                    "equal to a training image, pixel for pixel: results are too good"
                )
    repeated = len(train) - len(known)
    if repeated:
        lines.append(
            f"{count_of(repeated, 'training image')} of {len(train):,} equal to another, pixel "
            "for pixel"
        )
    return lines


def conflicts_note(images: np.ndarray, labels: np.ndarray) -> list[str]:
    """Return a line that counts training images with an equal one of another class.

    Args:
        images: Training images (N, C, H, W).
        labels: (N,).
    """
    hashes = _hashes(images)
    classes: dict[bytes, set[int]] = {}
    for digest, label in zip(hashes, labels.tolist(), strict=True):
        classes.setdefault(digest, set()).add(label)
    found = sum(len(classes[digest]) > 1 for digest in hashes)
    if not found:
        return []
    return [f"{count_of(found, 'training image')} equal to one of another class, pixel for pixel"]


def _hashes(images: np.ndarray) -> list[bytes]:
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        for image in images
    ]
