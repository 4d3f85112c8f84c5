"""Settings of the data set, which `flowpp.config.settings` combines with those of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flowpp.config.checks import at_least, at_most, one_of
from flowpp.config.data_sets import DATA_SETS

HeldOut = Literal["test", "valid"]
Crop = Literal["centre", "random", "stretch"]
SplitRule = Literal["auto", "tenth", "fifth"]
if TYPE_CHECKING:
    Source = str
else:
    Source = Literal[tuple(DATA_SETS)]
MAX_SIZE = 1 << 14
"""Upper bound on `data.size`, in pixels."""
MAX_BITS = 16
DEFAULT_FACTOR = 2
"""Factor between image and low-resolution context if none is given; also the least."""


@dataclass(frozen=True)
class DataConfig:
    """The data set, and the reduction of its images."""

    source: Source = "digits"
    """Name of the data set; `folder` is for your own images."""
    path: str | None = None
    """Location of the images; unused by `digits` and `photos`.
    cifar10: the folder `cifar-10-batches-py`, its tar archive, or an `.npz`.
    imagenet32, imagenet64: the folder of the PNG archives or of the `.npz` batches.
    folder: a folder, with or without folders such as `train`, `val` and `test` in it; or a file:
    zip, tar, .npy, .npz, .pt, .safetensors, .parquet.
    Others: an `.npz` with uint8 arrays `train` and `test`, (N, height, width, channels).
    """
    split: SplitRule = "auto"
    """How a folder's images are held out.
    auto: folders such as train and test, or else every tenth image.
    tenth, fifth: every tenth or fifth image, whatever the folders' names."""
    size: int | str | None = None
    """Height and width, such as 32, or HEIGHTxWIDTH, such as 48x64.
    A folder's images are resized, see `crop`; others are averaged down."""
    crop: Crop = "centre"
    """How a folder's images of another shape are made to fit.
    centre: the largest part in the middle.
    random: the largest part anywhere, the same in every run.
    stretch: everything, with another aspect ratio."""
    channels: Literal[1, 3] | None = None
    """Kind of a folder's images: 1 for grey, 3 for colour.
    If given, others are converted: to grey by luma, or to three equal channels."""
    convert: bool | None = None
    """Convert images of the other kind, rather than refuse them; None: if channels is given."""
    skip_bad: bool = False
    """Skip a folder's unreadable files and those of another kind."""
    bits: int | None = None
    """Highest bits kept of each value, up to 16.
    None keeps all 8 bits, and refuses images of 16."""
    labels: str | None = None
    """Class of each image, which the model is conditioned on.
    folder: the labels that come with the images: names of class folders, or the data set's own.
    FILE.csv: file names and labels of the images in a folder or archive."""
    context: str | None = None
    """Image or numbers that the model is conditioned on, one for each image.
    grey: its luma. low-resolution N: its means of NxN blocks, 2x2 without N.
    mask: its pixels outside random rectangles.
    FOLDER: the image of the same name there.
    FILE.csv, FILE.npy, FILE.npz: numbers, by file name or in the order of the images."""
    flip: bool = False
    """Mirror training images left to right at random, anew in every batch; results say so."""
    held_out: HeldOut = "test"
    """Array that is held out, test or valid; for cifar10 from an `.npz`."""
    partial: bool = False
    """Accept fewer ImageNet images than published."""

    def __post_init__(self) -> None:
        """Check ranges and choices.

        Raises:
            ValueError: A number outside its range, an unknown choice, or both labels and another
                context.
        """
        one_of("data.source", self.source, Source)
        one_of("data.held_out", self.held_out, HeldOut)
        one_of("data.split", self.split, SplitRule)
        one_of("data.crop", self.crop, Crop)
        for side in self.height_width or ():
            at_least("data.size", side, 1)
            at_most("data.size", side, MAX_SIZE)
        if self.bits is not None and not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f"data.bits must lie in 1 ... {MAX_BITS}, got {self.bits}")
        if self.labels is not None and self.context is not None:
            raise ValueError(
                "data.labels and data.context exclude each other, got "
                f"{self.labels!r} and {self.context!r}"
            )
        for name in ("labels", "context"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise ValueError(f"data.{name} must be a word or a path, got an empty text")
        _ = self.derived_context  # refuses a wrong factor

    @property
    def height_width(self) -> tuple[int, int] | None:
        """Height and width that `size` asks for.

        Raises:
            ValueError: A text that is neither a number nor HEIGHTxWIDTH.
        """
        if self.size is None or isinstance(self.size, int):
            return None if self.size is None else (self.size, self.size)
        sides = self.size.lower().split("x")
        if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
            raise ValueError(
                f"data.size must be a number or HEIGHTxWIDTH, such as 48x64, got {self.size!r}"
            )
        return int(sides[0]), int(sides[-1])

    @property
    def is_conditional(self) -> bool:
        """Whether the images have labels or another context."""
        return self.labels is not None or self.context is not None

    @property
    def derived_context(self) -> tuple[str, int] | None:
        """Context that is computed from the image, and its factor; None for a file or none.

        The factor is the side of the blocks of low-resolution, and 1 for others.

        Raises:
            ValueError: A factor that is not a whole number from 2 on.
        """
        word, _, factor = (self.context or "").partition(" ")
        if self.context in ("grey", "mask"):
            return self.context, 1
        if word != "low-resolution":
            return None
        factor = factor.strip() or str(DEFAULT_FACTOR)
        if not factor.isdecimal() or int(factor) < DEFAULT_FACTOR:
            raise ValueError(
                "data.context low-resolution must be followed by a whole number from 2 on, such "
                f"as 'low-resolution 4', got {self.context!r}"
            )
        return word, int(factor)

    @staticmethod
    def migrate(values: dict[str, Any]) -> dict[str, Any]:
        """Convert stored values of versions before `convert`, which converted no image."""
        if values.get("channels") is not None and "convert" not in values:
            return {**values, "convert": False}
        return values

    @property
    def augmentation(self) -> str | None:
        """Description of how training images are changed at random; None if they are not."""
        return "random horizontal flips of the training images" if self.flip else None

    def required_path(self, contents: str) -> Path:
        """Return `path` with the home directory expanded.

        Args:
            contents: Description of what must lie there, for the error.

        Raises:
            ValueError: No path, or an empty text, which would be the current folder.
        """
        if self.path is None or not self.path.strip():
            got = "none" if self.path is None else "an empty text"
            raise ValueError(f"{self.source} needs data.path: {contents}; got {got}")
        return Path(self.path).expanduser()
