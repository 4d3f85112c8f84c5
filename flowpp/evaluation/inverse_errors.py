"""Errors of a model that cannot decode, as after training at too high a rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flowpp.root_finding import RootError
from flowpp.runtime.image_tensors import NonFiniteImageError


@contextmanager
def inverse_errors() -> Iterator[None]:
    """End a command with status 1 and one line if no images or latents can be computed.

    Raises:
        SystemExit: A number is not finite, or the inverse of a mixture has no root.
    """
    try:
        yield
    except (NonFiniteImageError, RootError) as error:
        raise SystemExit(f"error: {error}") from None
