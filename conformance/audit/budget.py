"""How much is looked at: seconds, about a minute, or as long as it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Sizes of the grids.

    Attributes:
        random: mixtures of each number of components.
        components: those numbers.
        extreme: points over all orders of magnitude.
        columns, rows: of the plane x against log-scale.
        ray: points on each half-line.
        line: points between 0 and 60 where clamps are looked for.
        targets: of each kind, for the inverse.
        images: held-out images for the model.
        steps: of training, where no run is given; 0 for no model at all.
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
