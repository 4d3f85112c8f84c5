"""Labels in arrays: integers or texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAMES = "label_names"
"""Array of the names of labels 0, 1, ..."""


def names_in(array: np.ndarray, who: str) -> list[str]:
    """Return an array of labels, integers or texts of shape (N,) or (N, 1), as texts.

    Raises:
        TypeError: Other values.
        ValueError: Another shape, or an empty text.
    """
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        hint = "; of one-hot rows use array.argmax(axis=1)" if array.ndim == 2 else ""
        raise ValueError(f"{who} must be labels of shape (N,), got {array.shape}{hint}")
    if array.dtype.kind not in "iubUS":
        raise TypeError(
            f"{who} must be integers or texts, got {array.dtype}; for numbers use data.context"
        )
    texts = [
        (value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))
        for value in array.tolist()
    ]
    empty = sum(not text.strip() for text in texts)
    if empty:
        raise ValueError(f"{who} must have a label for each image, got {empty:,} empty texts")
    return [text.strip() for text in texts]


def named(numbers: Sequence[str], names: Sequence[str] | None, who: str) -> list[str]:
    """Return the names of labels 0, 1, ..., or the numbers themselves without names.

    Raises:
        ValueError: A number without a name.
    """
    if names is None:
        return list(numbers)
    wrong = next((n for n in numbers if not (n.isdecimal() and int(n) < len(names))), None)
    if wrong is not None:
        raise ValueError(
            f"{who} must lie in 0 ... {len(names) - 1}, the {len(names)} names, got {wrong}"
        )
    return [names[int(number)] for number in numbers]
