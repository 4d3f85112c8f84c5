"""Picture of a scaling law beside the runs that it is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowpp.evaluation.figures import new_figure

from .scaling import Fit, Point

MARGIN = 1.3
"""Factor by which the lines of the law are longer than the runs."""


def scaling_picture(given: Sequence[Point], found: Fit) -> Any:
    """Draw the loss against the number of images seen, with a line of the law for each width.

    Bars are the root mean square of the residuals.
    """
    figure = new_figure(8.4, 4.5)
    axes = figure.add_subplot()
    images = [point.images for point in given]
    line = np.geomspace(min(images) / MARGIN, max(images) * MARGIN, 100)
    for number, weights in enumerate(sorted({point.weights for point in given})):
        own = [point for point in given if point.weights == weights]
        colour = f"C{number % 10}"
        axes.plot(line, found.law.loss(weights, line), color=colour, linewidth=1)
        axes.errorbar(
            [point.images for point in own], [point.loss for point in own], found.residual,
            fmt="o", color=colour, label=f"{weights:,} weights",
        )  # fmt: skip
    law = found.law
    axes.axhline(law.floor, color="grey", linewidth=1, linestyle=":")
    axes.annotate(f"E = {law.floor:.3f}", (line[0], law.floor), (0, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(images)), [f"{count:,}" for count in sorted(set(images))])
    axes.minorticks_off()
    axes.set_xlabel("images seen")
    axes.set_ylabel("held-out bits/dim")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
