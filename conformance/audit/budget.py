"""Sizes of an audit: seconds, about a minute, or many minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Numbers of points, images and training steps.

    Attributes:
        random: Random mixtures for each number of components.
        components: Numbers of components.
        extreme: Points over all orders of magnitude.
        columns, rows: Size of the plane of x against log-scale.
        ray: Points between 1 and 100 on each half-line.
        line: Points between 0 and 60, where clamps take effect.
        targets: Targets of each kind for the inverse.
        images: Held-out images for the model.
        steps: Training steps if no run is given; 0 for no model.
    """

    random: int
    components: tuple[int, ...]
    extreme: int
    columns: int
    rows: int
    ray: int
    line: int
    targets: int
    images: int
    steps: int


QUICK = Budget(60, (1, 4, 16), 60, 31, 7, 65, 121, 80, 16, 0)
USUAL = Budget(300, (1, 4, 32), 300, 61, 25, 161, 301, 300, 96, 100)
FULL = Budget(3000, (1, 2, 4, 8, 32, 128), 3000, 121, 61, 321, 1201, 3000, 297, 400)
