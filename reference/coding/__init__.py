"""Lossless coding of images with a flow: local bits-back coding, slow and readable.

The code of an image is written onto a stack of bits. A bijector y = f(x) is coded by

    pop  y ~ N(f(x), std_y^2)             which takes bits from the stack,
    push x ~ N(f^-1(y), std_x^2)          which puts bits onto it,

both rounded to bins. With std_y = |f'| std_x the difference is -log2 |f'| bits. After the last
bijector z is pushed by the prior. The dequantization noise is popped, so its bits come back too:

    bits of an image = -log2 N(z; 0, I) - log2 |det dz/d(x + u)| + log2 q(u|x).

Everything that both sides compute is a function of integers that both have, the numbers of bins.

Source: Ho, Lohn and Abbeel 2019, "Compression with Flows via Local Bits-Back Coding".
"""

from __future__ import annotations

from .bins import Bins, Precision
from .build import step_of
from .images import Coder
from .stack import CodingError, Normal, Stack
from .steps import Step

__all__ = ["Bins", "Coder", "CodingError", "Normal", "Precision", "Stack", "Step", "step_of"]
