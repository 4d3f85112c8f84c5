"""Shapes of the cases distinguish the factors that a log-det is confused with."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.cases import BIJECTOR_CASES, RANDOM_CASES
from conformance.cases.source import VariedSource
from conformance.judging.diagnosis.log_dets import parts
from faulty import judge_faulty

POINTS = ("line", "pixel", "plane", "linear_plane")
"""Cases of one position, or of two numbers, for laws of densities."""


@pytest.mark.parametrize("name", [n for n in BIJECTOR_CASES if not n.endswith(POINTS)])
def test_height_and_width_differ_in_every_case(name):
    """Otherwise a log-det that is counted H*H times is right."""
    case, rng = BIJECTOR_CASES[name], np.random.default_rng(0)
    context = None if case.context is None else case.context(rng)
    for draw in (case.typical, case.tails):
        x = draw(rng)
        shapes = {x.shape[2:]} | {
            part.x.shape[2:] for part in parts(case.build(rng), x, context)[1]
        }
        assert any(height != width for height, width in shapes), shapes


@pytest.mark.parametrize("name", [n for n in RANDOM_CASES if "coupling" not in n])
def test_some_drawn_images_are_neither_square_nor_lines(name):
    shapes = [
        RANDOM_CASES[name].make(VariedSource(np.random.default_rng([0, i]))).x.shape[2:]
        for i in range(24)
    ]
    assert any(1 < height != width > 1 for height, width in shapes), shapes


@pytest.mark.parametrize("case", ["invertible_conv/joint", "invertible_conv_lu/halves"])
@pytest.mark.parametrize(("axis", "count"), [(2, "H*H"), (3, "W*W")])
def test_a_log_det_counted_along_one_axis_is_named(case, axis, count):
    def forward(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, log_det * x.shape[axis] ** 2 / x[0, 0].size

    result = judge_faulty(case, "log_det", forward=forward)
    assert f"is counted {count} times, not at each of H*W" in result.hint, result.hint
