"""Figures of the commands."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from flowpp.runtime.files import atomic_write


def new_figure(width: float, height: float) -> Any:
    """Create a figure, sides in inches, without pyplot, which would look for a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # boxes in their place
        figure.savefig(temporary, format="png", dpi=120)


def svg(figure: Any) -> str:
    """Return a figure as an SVG element to embed in a page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "flowpp"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
