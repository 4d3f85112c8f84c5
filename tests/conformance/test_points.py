"""A failure's message and point show the input that failed, not another."""

from __future__ import annotations

import numpy as np
import pytest

from faulty import judge_faulty
from reference.bijectors import Affine


def refusing(size):
    def forward(spec, x, context):
        if len(x) == size:
            raise ValueError("cannot reshape")
        return spec.forward(x, context)

    return forward


@pytest.mark.parametrize(("size", "text"), [(0, "0 examples"), (1, "1 example"), (131, "131 ex")])
def test_an_exception_names_the_batch(size, text):
    result = judge_faulty("affine/shared", "batch", forward=refusing(size))
    assert f"forward of a batch of {text}" in result.message
    assert f"x ({size}, 2, 2, 3): ValueError: cannot reshape (" in result.message
    assert result.point["x"].startswith(f"({size}, 2, 2, 3) [") and "y" not in result.point


def test_an_exception_of_the_inverse_shows_y():
    result = judge_faulty("affine/shared", "batch", inverse=refusing(0))
    assert "inverse of a batch of 0 examples, y (0, 2, 2, 3)" in result.message
    assert result.point["y"] == "(0, 2, 2, 3) []" and "x" not in result.point


def test_a_wrong_example_of_a_large_batch_is_the_one_that_is_shown():
    seen = []

    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        if len(x) > 100:
            seen.append(x[100])
            y[100] += 1.0
        return y, log_det

    result = judge_faulty("affine/shared", "batch", forward=forward)
    assert result.point["example"] == 100
    assert f"[{seen[0].flat[0]:.9g}, {seen[0].flat[1]:.9g}, " in result.point["x"]


def test_a_special_value_is_in_the_input_that_is_shown():
    def forward(spec, x, context):
        return spec.forward(np.nan_to_num(x), context)

    result = judge_faulty("affine/shared", "special_values", forward=forward)
    assert "nan" in result.point["x"]


@pytest.mark.parametrize("raises", [True, False])
def test_the_law_of_sizes_shows_the_size_that_failed(raises):
    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        if x.shape[1] == 33:
            if raises:
                raise IndexError("no such channel")
            y = y + 1.0
        return y, log_det

    result = judge_faulty("affine/random", "sizes", forward=forward)
    assert result.point["x"].startswith("(2, 33, 1, 3) [")
    assert result.point["parameters"]["class"] == Affine.__name__
    if raises:
        text = "forward of a batch of 2 examples, x (2, 33, 1, 3): IndexError: no such channel"
        assert text in result.message


def test_an_exception_for_a_drawn_specification_names_its_input():
    result = judge_faulty("flip/random", "random_specs", forward=refusing(1))
    assert "forward of a batch of 1 example, x (1, 2, 1, 1): ValueError" in result.message
