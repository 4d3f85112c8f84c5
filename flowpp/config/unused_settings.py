"""Settings of the data that a data set has no use for."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from flowpp.config.data_sets import DATA_SETS
from flowpp.config.data_settings import DataConfig

OWN_IMAGES = ("split", "crop", "channels", "convert", "skip_bad")
USED = {
    "flowpp.data.folder": OWN_IMAGES,
    "flowpp.data.imagenet": ("partial",),
    "flowpp.data.cifar10": ("held_out",),
    "flowpp.data.npz_images": ("held_out",),
    "flowpp.data.digits": (),
    "flowpp.data.photos": (),
}
"""Settings that not all data sets use, by the module that uses them. Modules of others' data sets,
which are not in this table, may use any."""


def check_used(former: DataConfig, data: DataConfig) -> None:
    """Require that the data set uses each setting that was changed.

    Args:
        former: Settings before the change: those of a preset or of another run.
        data: Settings after it.

    Raises:
        ValueError: A setting that would have no effect.
    """
    used = USED.get(DATA_SETS[data.source].module)
    special = {name for names in USED.values() for name in names}
    for field in fields(data):
        name, value = field.name, getattr(data, field.name)
        if used is None or name not in special or value == getattr(former, name):
            continue
        if name not in used:
            users = [source for source, of in DATA_SETS.items() if name in USED.get(of.module, ())]
            raise ValueError(
                f"data.{name} is for data.source {' or '.join(users)}, got {value} for "
                f"{data.source}, which does not use it"
            )
    if data.source == "cifar10" and data.held_out != former.held_out:
        path = Path(data.path or "")
        if data.path and path.suffix != ".npz":
            raise ValueError(
                f"data.held_out {data.held_out} needs an .npz with an array {data.held_out}, got "
                f"{path}, whose test images are held out"
            )
