"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector, Chain, DataLogit
from reference.dequantization import UniformDequantizer, VariationalDequantizer
from reference.objective import Elbo, log_normal


@dataclass(frozen=True, eq=False)
class FlowPlusPlus:
    """z = flow(x + u), u from the dequantizer, z ~ N(0, I).

    Attributes:
        dequantizer: gives u and log q(u|x).
        flow: a Chain that begins with a DataLogit of as many levels as the dequantizer.

    Raises:
        ValueError: if dequantizer and flow are not for the same number of levels.
    """

    dequantizer: UniformDequantizer | VariationalDequantizer
    flow: Bijector

    def __post_init__(self) -> None:
        first = self.flow
        while isinstance(first, Chain) and first.bijectors:
            first = first.bijectors[0]
        if isinstance(first, DataLogit) and first.levels != self.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {self.levels} levels, "
                f"got {first.levels}"
            )

    @property
    def levels(self) -> int:
        """Number of pixel values."""
        return self.dequantizer.levels

    def elbo(self, x: ArrayLike, noise: ArrayLike) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: (B, C, H, W), integers 0 ... levels - 1.
            noise: (B, C, H, W), from `dequantizer.draw_noise`.
        """
        u, log_q = self.dequantizer.sample(x, noise)
        z, log_det = self.flow.forward(np.asarray(x, dtype=np.float64) + u)
        return Elbo(log_q=log_q, log_det=log_det, log_prior=log_normal(z))

    def encode(self, x: ArrayLike, noise: ArrayLike) -> np.ndarray:
        """Images to latents z, of as many numbers as the image has."""
        u, _ = self.dequantizer.sample(x, noise)
        return self.flow.forward(np.asarray(x, dtype=np.float64) + u)[0]

    def decode(self, z: ArrayLike) -> np.ndarray:
        """Latents to real-valued images, cut to [0, levels].

        The integer image is the floor of it (of values below `levels`). The flow itself reaches a
        little beyond the scale, as the logit's margin lies outside the data.
        """
        return np.clip(self.flow.inverse(z)[0], 0.0, float(self.levels))

    def initialize(self, x: ArrayLike, noise: ArrayLike) -> tuple[FlowPlusPlus, np.ndarray]:
        """Data-dependent initialization: the model fitted to a batch, and that batch's z."""
        dequantizer, u = self.dequantizer.initialize(x, noise)
        flow, z = self.flow.initialize(np.asarray(x, dtype=np.float64) + u)
        return dataclasses.replace(self, dequantizer=dequantizer, flow=flow), z
