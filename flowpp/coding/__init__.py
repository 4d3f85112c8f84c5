"""Lossless coding of images with a trained model: local bits-back coding.

The modules and classes are twins of those of `reference.coding`, which explains the mathematics;
here batches are coded at once, in float64, and `constriction` keeps the stack of bits.
"""

from __future__ import annotations

from .bins import Bins, Precision
from .build import step_of
from .images import Coder
from .stack import CodingError, Stack
from .steps import Step

__all__ = ["Bins", "Coder", "CodingError", "Precision", "Stack", "Step", "step_of"]
