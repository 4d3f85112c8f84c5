"""Named settings, among them those behind every published number of this project.

The first sentence of a description says what the preset is and which result was published for it.
"""

from __future__ import annotations

from difflib import get_close_matches

from flowpp.config.presets import baselines, celeba, cifar10, cpu, imagenet
from flowpp.config.presets.cpu import SMALL
from flowpp.config.settings import Config

__all__ = ["PRESETS", "SMALL", "get", "summary"]

PRESETS: dict[str, Config] = {
    config.preset: config
    for config in (
        cpu.DIGITS,
        cpu.PHOTOS,
        SMALL,
        cifar10.CIFAR10,
        cifar10.CIFAR10_UNIFORM,
        cifar10.CIFAR10_AFFINE,
        cifar10.CIFAR10_NO_ATTENTION,
        cifar10.CIFAR10_PAPER,
        cifar10.CIFAR10_PLUS,
        cifar10.CIFAR16,
        cifar10.CIFAR16_PLUS,
        cifar10.CIFAR16_VFLOW,
        imagenet.IMAGENET32,
        imagenet.IMAGENET64,
        imagenet.IMAGENET64_5BIT,
        celeba.CELEBA64_5BIT,
        celeba.CELEBA64_3BIT,
        celeba.CELEBA128_5BIT,
        baselines.REALNVP,
        baselines.GLOW,
        baselines.REALNVP16,
        baselines.GLOW16,
    )
}


def get(name: str) -> Config:
    """Return the preset of that name.

    Raises:
        TypeError: Not a name.
        ValueError: An unknown name; the message suggests the nearest one.
    """
    if not isinstance(name, str):
        raise TypeError(f"preset must be a name, got {type(name).__name__}")
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}{hint}")
    return PRESETS[name]


def summary() -> str:
    """Return a table of the presets: name, and first sentence of the description."""
    width = max(map(len, PRESETS))
    return "\n".join(
        f"  {name:{width}} {config.description.split('. ')[0].removesuffix('.')}"
        for name, config in PRESETS.items()
    )
