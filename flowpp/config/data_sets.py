"""Table of data sets.

To add one, write its module in flowpp/data and a line here; for an `.npz` with the arrays `train`
and `test`, a line with the module `flowpp.data.npz_images` suffices.
"""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class DataSet:
    """One data set.

    The module is named rather than imported, so that reading settings loads no images.

    Args:
        module: Module with a function `load(config: DataConfig) -> ImageSet`.
        shape: Channels, height and width; None if `DataConfig` decides.
        levels: Number of values of a channel.
        bundled: Whether the images come with an installed package, without `data.path`.
        kept_decoded: Whether large sets are decoded once, into memory-mapped files. The module
            then has `files(config) -> list[Path]`, and `load(config, allocate)` fills arrays that
            the function `allocate` returns for their shapes.
    """

    module: str
    shape: Shape | None
    levels: int = 256
    bundled: bool = False
    kept_decoded: bool = False


DATA_SETS = {
    "digits": DataSet("flowpp.data.digits", (1, 8, 8), levels=17, bundled=True),
    "photos": DataSet("flowpp.data.photos", (3, 32, 32), bundled=True),
    "cifar10": DataSet("flowpp.data.cifar10", (3, 32, 32)),
    "imagenet32": DataSet("flowpp.data.imagenet", (3, 32, 32), kept_decoded=True),
    "imagenet64": DataSet("flowpp.data.imagenet", (3, 64, 64), kept_decoded=True),
    "folder": DataSet("flowpp.data.folder", None, kept_decoded=True),
}
