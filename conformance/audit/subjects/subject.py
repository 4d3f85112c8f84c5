"""Implementations under audit, each through its adapter in one dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Dtype, NotSupported
from conformance.audit.grids import Points
from reference.bijectors import MixtureLogistic

PARAMETERS = ("logits", "means", "log_scales")


@dataclass(frozen=True)
class Outputs:
    """Outputs of an implementation at N points; None where it has no gradients.

    Attributes:
        y, l: Value and log-derivative, `(N,)`.
        y_x, l_x: Their gradients by x, `(N,)`.
        y_logits, y_means, y_log_scales: Gradients of y by the parameters, `(N, K)`.
    """

    y: np.ndarray
    l: np.ndarray  # noqa: E741
    y_x: np.ndarray | None = None
    l_x: np.ndarray | None = None
    y_logits: np.ndarray | None = None
    y_means: np.ndarray | None = None
    y_log_scales: np.ndarray | None = None


@dataclass(frozen=True)
class Subject:
    """An implementation in one dtype.

    Attributes:
        name: Name in tables.
        adapter: Adapter class, see `conformance.adapter`.
        dtype: "float32" or "float64".
        role: "judged" sets the exit status; "shown" is for comparison; "specimen" must fail.
    """

    name: str
    adapter: type[Adapter]
    dtype: Dtype
    role: str

    def __str__(self) -> str:
        """Name and dtype."""
        return f"{self.name} {self.dtype}"

    @property
    def native(self) -> bool:
        """Whether this is flowpp, whose models already use these mixtures."""
        return self.adapter.__module__ == "conformance.adapters.flowpp"

    @property
    def eps(self) -> float:
        """Machine epsilon of the dtype."""
        return float(np.finfo(self.dtype).eps)

    def supported(self) -> str | None:
        """Return None if the adapter has a mixture in this dtype, else its reason.

        Raises:
            ValueError: The adapter fails to build the simplest mixture.
        """
        zero = np.zeros((1, 1, 1, 1, 1))
        try:
            self.adapter(self.dtype).build(MixtureLogistic(zero, zero, zero))
        except NotSupported as reason:
            return str(reason)
        except Exception as error:  # the adapter is foreign code
            raise ValueError(
                f"{self.name} cannot build a MixtureLogistic in {self.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return None

    def build(self, *parameters: np.ndarray) -> Any:
        """Build the implementation's mixture for logits, means and log-scales `(..., K)`."""
        return self.adapter(self.dtype).build(MixtureLogistic(*parameters))

    def evaluate(self, points: Points) -> Outputs:
        """Compute values, and gradients if the implementation has a `vjp`."""
        built, x = self._built(points), self._images(points.x)
        y, log_det = built.forward(x)
        found = {"y": y.reshape(-1), "l": log_det}
        if callable(getattr(built, "vjp", None)):
            one, zero = np.ones_like(x), np.zeros_like(x)
            of_y = built.vjp(x, None, one, zero.reshape(-1))
            of_l = built.vjp(x, None, zero, one.reshape(-1))
            found |= {"y_x": of_y["x"].reshape(-1), "l_x": of_l["x"].reshape(-1)}
            found |= {f"y_{p}": of_y[p].reshape(len(points), -1) for p in PARAMETERS if p in of_y}
        return Outputs(**found)

    def forward(self, points: Points) -> np.ndarray:
        """Compute y only, `(N,)`."""
        return self._built(points).forward(self._images(points.x))[0].reshape(-1)

    def inverse(self, targets: Points) -> np.ndarray:
        """Compute x for targets y, `(N,)`."""
        return self._built(targets).inverse(self._images(targets.x))[0].reshape(-1)

    def _built(self, points: Points) -> Any:
        shape = (len(points), 1, 1, 1, -1)
        return self.build(*(p.reshape(shape) for p in points.parameters))

    def _images(self, x: np.ndarray) -> np.ndarray:
        return x.astype(self.dtype).reshape(-1, 1, 1, 1)
