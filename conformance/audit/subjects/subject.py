"""Who is audited: implementations of the mixture, each through its adapter, in one dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Dtype, NotSupported
from conformance.audit.grids import Points
from reference.bijectors import MixtureLogistic

PARAMETERS = ("logits", "means", "log_scales")


@dataclass(frozen=True)
class Answer:
    """What an implementation says at N points; None where it has no such thing.

    Attributes:
        y, l: value and log-derivative, `(N,)`.
        y_x, l_x: their gradients by x, `(N,)`.
        y_logits, y_means, y_log_scales: gradients of y by the parameters, `(N, K)`.
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
        name: for tables.
        adapter: see `conformance.adapter`.
        dtype: "float32" or "float64".
        role: "judged" decides the exit code; "shown" stands beside it; "specimen" must fail.
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
        """Whether this is flowpp itself, whose models need no replacement of their mixtures."""
        return self.adapter.__module__ == "conformance.adapters.flowpp"

    @property
    def eps(self) -> float:
        """Spacing of the dtype's numbers at 1."""
        return float(np.finfo(self.dtype).eps)

    def supported(self) -> str | None:
        """None, or why this adapter does not take part in this dtype.

        Raises:
            ValueError: it fails at the simplest mixture.
        """
        zero = np.zeros((1, 1, 1, 1, 1))
        try:
            self.adapter(self.dtype).build(MixtureLogistic(zero, zero, zero))
        except NotSupported as reason:
            return str(reason)
        except Exception as error:  # a stranger's code may raise anything
            raise ValueError(
                f"{self.name} cannot build a MixtureLogistic in {self.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return None

    def build(self, *parameters: np.ndarray) -> Any:
        """The implementation's mixture for logits, means and log-scales `(..., K)`."""
        return self.adapter(self.dtype).build(MixtureLogistic(*parameters))

    def answer(self, points: Points) -> Answer:
        """Values, and gradients where the adapter has a `vjp`."""
        built, x = self._built(points), self._images(points.x)
        y, log_det = built.forward(x)
        found = {"y": y.reshape(-1), "l": log_det}
        if _has(built, "vjp"):
            one, zero = np.ones_like(x), np.zeros_like(x)
            of_y = built.vjp(x, None, one, zero.reshape(-1))
            of_l = built.vjp(x, None, zero, one.reshape(-1))
            found |= {"y_x": of_y["x"].reshape(-1), "l_x": of_l["x"].reshape(-1)}
            found |= {f"y_{p}": of_y[p].reshape(len(points), -1) for p in PARAMETERS if p in of_y}
        return Answer(**found)

    def forward(self, points: Points) -> np.ndarray:
        """y alone, `(N,)`."""
        return self._built(points).forward(self._images(points.x))[0].reshape(-1)

    def inverse(self, targets: Points) -> np.ndarray:
        """The x that it finds for targets y, `(N,)`."""
        return self._built(targets).inverse(self._images(targets.x))[0].reshape(-1)

    def _built(self, points: Points) -> Any:
        shape = (len(points), 1, 1, 1, -1)
        return self.build(*(p.reshape(shape) for p in points.parameters))

    def _images(self, x: np.ndarray) -> np.ndarray:
        return x.astype(self.dtype).reshape(-1, 1, 1, 1)


def _has(built: Any, name: str) -> bool:
    return callable(getattr(built, name, None))
