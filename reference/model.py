"""Flow++: a dequantizer and a flow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.chain import Chain
from reference.bijectors.data_logit import DataLogit
from reference.dequantization import Dequantizer
from reference.objective import Elbo, log_normal


@dataclass(frozen=True, eq=False)
class FlowPlusPlus:
    """P(x) >= exp(E_u[log N(z; 0, I) + log|det dz/d(x+u)| - log q(u|x)]), z = flow(x + u).

    Attributes:
        dequantizer: noise u and log q(u|x).
        flow: from [0, levels] images to z.

    Raises:
        ValueError: a flow that begins with a DataLogit of another number of levels.
    """

    dequantizer: Dequantizer
    flow: Bijector

    def __post_init__(self) -> None:
        first = _first(self.flow)
        if isinstance(first, DataLogit) and first.levels != self.levels:
            raise ValueError(
                f"FlowPlusPlus needs a flow for the dequantizer's {self.levels} levels, "
                f"got {first.levels}"
            )

    @property
    def levels(self) -> int:
        """Number of values of a channel of the images."""
        return self.dequantizer.levels

    def elbo(self, x: Array, noise: Array) -> Elbo:
        """Compute the one-sample bound on log P(x) of integer images.

        Args:
            x: (B, C, H, W), integers 0 ... levels - 1.
            noise: (B, C, H, W), from `dequantizer.draw_noise`.
        """
        u, log_q = self.dequantizer.sample(x, noise)
        z, log_det = self.flow.forward(np.asarray(x, dtype=np.float64) + u)
        return Elbo(log_q=log_q, log_det=log_det, log_prior=log_normal(z))

    def encode(self, x: Array, noise: Array) -> Array:
        """Map integer images x to z, (B, C', H', W')."""
        u, _ = self.dequantizer.sample(x, noise)
        return self.flow.forward(np.asarray(x, dtype=np.float64) + u)[0]

    def decode(self, z: Array) -> Array:
        """Map z to real-valued images x + u, clipped to [0, levels]; their floor is the image.

        The flow's range extends slightly beyond [0, levels], where there are no images.
        """
        return np.clip(self.flow.inverse(z)[0], 0.0, float(self.levels))

    def initialize(self, x: Array, noise: Array) -> tuple[FlowPlusPlus, Array]:
        """Initialize from data: return the model fitted to a batch, and that batch's z."""
        dequantizer, u = self.dequantizer.initialize(x, noise)
        flow, z = self.flow.initialize(np.asarray(x, dtype=np.float64) + u)
        return dataclasses.replace(self, dequantizer=dequantizer, flow=flow), z


def _first(flow: Bijector) -> Bijector:
    """Return the bijector that the image enters first, inside any nested chains."""
    while isinstance(flow, Chain) and flow.bijectors:
        flow = flow.bijectors[0]
    return flow
