"""Bijectors: invertible maps of images, with the logarithm of their Jacobian determinant.

The contract, the same for every class here and for every composition of them::

    forward(x, context=None) -> (y, log_det)    # data side -> noise side
    inverse(y, context=None) -> (x, log_det)    # log_det of the inverse map

- Arrays are (batch, channels, height, width); one array in, one array out.
- `log_det` is log|det dy/dx| in nats, an array of shape (batch,): always.
- Any real dtype comes in, integers included; float64 goes out.
- A NaN in the input gives NaN in the output of that example, never a plausible number.
- A split is a permutation that lays its two halves on the channel axis, first half first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

B = TypeVar("B", bound="Bijector")


class Bijector(ABC):
    """An invertible map of (batch, channels, height, width) arrays; the contract is above."""

    @abstractmethod
    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map data to noise: (y, log|det dy/dx| of shape (batch,))."""

    @abstractmethod
    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map noise to data: (x, log|det dx/dy| of shape (batch,))."""

    def initialize(
        self: B, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[B, np.ndarray]:
        """Data-dependent initialization: this bijector fitted to the batch `x`, and its output.

        What has nothing to fit is returned as it is. Composite bijectors fit their parts in the
        order of the forward pass, each on what the parts before it, already fitted, give out.
        """
        return self, self.forward(x, context)[0]


# The base class comes first: the modules below import it from here.
from reference.bijectors.act_norm import ActNorm  # noqa: E402
from reference.bijectors.affine import Affine  # noqa: E402
from reference.bijectors.chain import Chain  # noqa: E402
from reference.bijectors.channel_split import ChannelSplit  # noqa: E402
from reference.bijectors.checkerboard import Checkerboard  # noqa: E402
from reference.bijectors.column_stripes import ColumnStripes  # noqa: E402
from reference.bijectors.coupling import Coupling  # noqa: E402
from reference.bijectors.data_logit import DataLogit  # noqa: E402
from reference.bijectors.factor_out import FactorOut  # noqa: E402
from reference.bijectors.flip import Flip  # noqa: E402
from reference.bijectors.inverse import Inverse  # noqa: E402
from reference.bijectors.invertible_conv import InvertibleConv  # noqa: E402
from reference.bijectors.invertible_conv_lu import InvertibleConvLU  # noqa: E402
from reference.bijectors.mixture_logistic import MixtureLogistic  # noqa: E402
from reference.bijectors.sigmoid import Sigmoid  # noqa: E402
from reference.bijectors.squeeze import Squeeze  # noqa: E402

__all__ = [
    "ActNorm",
    "Affine",
    "Bijector",
    "Chain",
    "ChannelSplit",
    "Checkerboard",
    "ColumnStripes",
    "Coupling",
    "DataLogit",
    "FactorOut",
    "Flip",
    "Inverse",
    "InvertibleConv",
    "InvertibleConvLU",
    "MixtureLogistic",
    "Sigmoid",
    "Squeeze",
]
