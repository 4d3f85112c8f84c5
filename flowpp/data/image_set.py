"""A data set in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data.context_arrays import check_contexts, context_line

Part = Literal["train", "valid", "test"]
LABELS = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images, and validation images if there is a third part.

    Args:
        name: Name of the data set and its version, as shown beside results.
        train: Training images of shape (N, C, H, W), values in 0 .. levels-1; uint8, or uint16 if
            there are more than 256 levels.
        test: Held-out images, likewise.
        levels: Number of values of a channel.
        skipped: Reasons for files left out, one per file.
        valid: Images held out for evaluations during training, likewise; without them the test
            images serve for these too.
        origins: Where the images of each part come from: `train`, `valid`, `test`.
        notes: Lines for the user on how the images were read.
        context: What the images are conditioned on; None for nothing.
        contexts: One context an image, by part: labels (N,) int64, vectors (N, D) float32, or
            images (N, K, h, w) of the type of the images. See `flowpp.data.contexts`.

    Raises:
        TypeError: An array of another type.
        ValueError: An array that is empty, of another shape, or with values outside the levels;
            contexts that do not belong to these images.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    levels: int
    skipped: tuple[str, ...] = ()
    valid: np.ndarray | None = None
    origins: Mapping[Any, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    context: ContextSpec | None = None
    contexts: Mapping[Any, np.ndarray] = field(default_factory=dict)
    sha256: str = field(init=False)
    """Hash of shapes and values, training images first, contexts last; recorded with each run."""
    _without_validation: str = field(init=False)
    """Hash of training and test images only, as versions without validation images recorded."""

    def __post_init__(self) -> None:
        """Check the arrays and hash them."""
        digest = hashlib.sha256()
        for part in ("train", "test"):
            self._check(part)
            _update(digest, part, getattr(self, part))
        object.__setattr__(self, "_without_validation", digest.hexdigest())
        if self.valid is not None:
            self._check("valid")
            _update(digest, "valid", self.valid)
        check_contexts(
            self.name, self.context, self.contexts, self.counts, self.train, self.levels
        )
        if self.context is not None:
            spec = self.context
            digest.update(repr((spec.kind, spec.names, spec.shape)).encode())
            for part in self.counts:
                _update(digest, f"{part} contexts", self.contexts[part])
        object.__setattr__(self, "sha256", digest.hexdigest())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape[1:]

    @property
    def held_out(self) -> np.ndarray:
        """Images for evaluations during training: the validation images, or else the test's."""
        return self.test if self.valid is None else self.valid

    @property
    def held_out_part(self) -> Part:
        """Part of `held_out`."""
        return "test" if self.valid is None else "valid"

    @property
    def counts(self) -> dict[Part, int]:
        """Number of images by part: train, valid if there is one, test."""
        valid: dict[Part, int] = {} if self.valid is None else {"valid": len(self.valid)}
        return {"train": len(self.train), **valid, "test": len(self.test)}

    def context_of(self, name: Part) -> np.ndarray | None:
        """Return the contexts of the training, validation or test images; None for none.

        Raises:
            ValueError: No validation images apart from the test images.
        """
        self.part(name)
        return None if self.context is None else self.contexts[name]

    def part(self, name: Part) -> np.ndarray:
        """Return the training, validation or test images.

        Raises:
            ValueError: No validation images apart from the test images.
        """
        images: np.ndarray | None = getattr(self, name)
        if images is None:
            raise ValueError(
                f"{self.name} has no {LABELS[name]} images apart from its {len(self.test)} test "
                "images"
            )
        return images

    def has_hash(self, recorded: object) -> bool:
        """Return whether a recorded hash is that of these images.

        Runs of versions without validation images recorded the hash of the other two parts.
        """
        if self.context is not None:
            return recorded == self.sha256
        return recorded in (self.sha256, self._without_validation)

    def description(self) -> list[str]:
        """Return a line for each part: how many images, and where from; and one on contexts."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        both = "" if self.valid is not None else "; also for evaluations during training"
        lines = []
        for part, images in parts.items():
            if images is not None:
                origin = f": {self.origins[part]}" if part in self.origins else ""
                more = both if part == "test" else ""
                noun = "image" if len(images) == 1 else "images"
                lines.append(f"{LABELS[part]:<11} {len(images):,} {noun}{origin}{more}")
        if self.context is not None:
            lines.append(context_line(self.context, self.contexts))
        return lines

    def _check(self, part: str) -> None:
        images, who = getattr(self, part), f"{self.name}: {part} images"
        dtype = np.uint8 if self.levels <= 256 else np.uint16
        if not isinstance(images, np.ndarray):
            raise TypeError(f"{who} must be a NumPy array, got {type(images).__name__}")
        if images.dtype != dtype:
            raise TypeError(f"{who} must be {np.dtype(dtype)}, got {images.dtype}")
        if images.ndim != 4 or images.size == 0:
            raise ValueError(f"{who} must be non-empty of shape (N, C, H, W), got {images.shape}")
        if images.shape[1:] != self.train.shape[1:]:
            raise ValueError(
                f"{who} must have the training images' shape {self.train.shape[1:]}, "
                f"got {images.shape[1:]}"
            )
        if images.max() >= self.levels:
            raise ValueError(f"{who} must lie in 0..{self.levels - 1}, got {images.max()}")


def _update(digest: hashlib._Hash, part: str, images: np.ndarray) -> None:
    digest.update(repr((part, images.shape)).encode())
    digest.update(np.ascontiguousarray(images).data)
