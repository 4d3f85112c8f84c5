"""Vectors as they are read from arrays."""

from __future__ import annotations

import numpy as np
import pytest

from flowpp.data.vectors import read_array


def test_differences_that_float32_does_not_resolve_are_refused(tmp_path):
    """Times in seconds since 1970 would be rounded to steps of two minutes."""
    file, draw = tmp_path / "a.npy", np.random.default_rng(0).normal(0, 1, (50, 1))
    seconds = np.hstack([draw, 1.7e9 + 3600 * draw])
    np.save(file, seconds)
    assert read_array(file).shape == (50, 2)  # to use a model on: its images may be of one hour
    with pytest.raises(ValueError, match=r"must differ by more .* in column 1"):
        read_array(file, training=True)
    np.save(file, seconds - [0, 1.7e9])
    read_array(file, training=True)
    constant = np.hstack([draw, np.full((50, 1), 0.1), 0.1 + 1e-16 * draw])
    np.save(file, constant)
    read_array(file, training=True)
    np.save(file, np.arange(1_700_000_000, 1_700_000_050))
    with pytest.raises(ValueError, match="must differ by more than float32 resolves"):
        read_array(file, training=True)
