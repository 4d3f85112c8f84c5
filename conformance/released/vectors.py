"""A file of recorded vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = ("w/", "w_before/")


class IncompleteVectors(ValueError):
    """Raised for a file whose variables are in another one that was not given."""


class Vectors:
    """Arrays and metadata of one file; images are returned channels first.

    Args:
        path: The `.npz` file.

    Raises:
        ValueError: The file is not a readable `.npz`, or lacks required arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta: dict[str, Any] = {}
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                self.arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a readable .npz file: {error}") from error
        except Exception as error:  # zipfile and zlib raise other types
            raise ValueError(f"{path} is damaged: {error}") from error
        missing = [name for name in ("meta", "x") if name not in self.arrays]
        model = not missing and bool({"eps", "u"} & set(self.arrays))
        if not (model or self.is_cdf):
            raise ValueError(
                f"{path} must have the arrays meta, x and eps (or u), or groups with f64/logcdf, "
                f"got {sorted(self.arrays)[:8]} ..."
            )
        if self.is_cdf:
            return
        self.meta = json.loads(str(self.arrays["meta"]))

    @property
    def is_cdf(self) -> bool:
        """Whether the file contains groups of mixtures instead of a model."""
        return any(name.endswith("/f64/logcdf") for name in self.arrays)

    @property
    def is_initialization(self) -> bool:
        """Whether the file contains weights before and after data-dependent initialization."""
        return any(name.startswith("w_before/") for name in self.arrays)

    @property
    def case(self) -> str:
        """Name of the case, shared by an initialization and its main file."""
        return str(self.meta.get("case", {}).get("name", ""))

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """Weights by the released code's names."""
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            for prefix in WEIGHTS
            if name.startswith(prefix)
        }

    @property
    def images(self) -> np.ndarray:
        """Integer images, `(B, C, H, W)`."""
        return channels_first(self.arrays["x"]).astype(np.int64)

    @property
    def noise(self) -> np.ndarray:
        """Input of the dequantizer: Gaussian `eps` or uniform `u`."""
        return channels_first(self.arrays["eps" if "eps" in self.arrays else "u"])

    @property
    def levels(self) -> int:
        """Number of values of a channel."""
        return int(self.meta["image_max"]) + 1

    def recorded(self, precision: str) -> dict[str, np.ndarray]:
        """Return the released code's results in precision "f32" or "f64"."""
        prefix = precision + "/"
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the arrays whose name starts with `prefix`, without the prefix."""
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }


def complete_variables(vectors: Vectors, others: Iterable[Vectors]) -> dict[str, np.ndarray]:
    """Return a file's variables, with missing ones taken from files of the same case.

    Raises:
        IncompleteVectors: A variable listed in `meta` is in none of the files.
    """
    variables = vectors.variables
    missing = [name for name in vectors.meta.get("variables", ()) if name not in variables]
    for other in others:
        if missing and other.case == vectors.case:
            stored = other.variables
            variables |= {name: stored[name] for name in missing if name in stored}
            missing = [name for name in missing if name not in variables]
    if missing:
        raise IncompleteVectors(
            f"{vectors.path} is incomplete: it lacks {len(missing)} variables, the first "
            f"{missing[0]}. They are in the main file of case {vectors.case!r}: name it on the "
            f"command line too, `python -m conformance.released {vectors.path.name} MAIN.npz`, or "
            "put it in the same folder"
        )
    return variables


def channels_first(array: np.ndarray) -> np.ndarray:
    """Move channels first: `(B, H, W, C) -> (B, C, H, W)`."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def channels_last(array: np.ndarray) -> np.ndarray:
    """Move channels last: `(B, C, H, W) -> (B, H, W, C)`."""
    return np.moveaxis(array, 1, -1)
