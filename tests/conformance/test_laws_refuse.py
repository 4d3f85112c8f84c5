"""Each law that needs no reference detects the errors it is for, and accepts correct maps."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from faulty import FaultyBijector, judge_faulty

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
DENSITIES = ("affine/line", "mixture_logistic/line", "chain/pixel", "flow/dequantization_plane")


def negated(spec, x, context):
    y, log_det = spec.forward(x, context)
    return y, -log_det


def squashed(spec, x, context):
    """A CDF clamped to [eps, 1 - eps], as is common."""
    y, log_det = spec.forward(x, context)
    end = np.log1p(-1e-6) - np.log(1e-6)
    return np.clip(y, -end, end), log_det


def saturated_inverse(spec, y, context):
    x, log_det = spec.inverse(y, context)
    return np.clip(x, -10.0, 10.0), log_det


@DTYPES
@pytest.mark.parametrize("law", ["normalization", "sampling"])
@pytest.mark.parametrize("case", DENSITIES)
def test_densities_of_correct_maps_hold(case, law, dtype):
    assert judge_faulty(case, law, dtype).status == "holds"


@DTYPES
@pytest.mark.parametrize("case", ["mixture_logistic/line", "coupling/plane", "flow/plane"])
def test_a_density_that_does_not_integrate_to_one(case, dtype):
    result = judge_faulty(case, "normalization", dtype, forward=negated)
    assert result.status == "fails" and "integral of the density" in result.message


@DTYPES
def test_a_density_with_a_hundredth_too_much(dtype):
    def more(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, log_det + 1e-4

    result = judge_faulty("mixture_logistic/line", "normalization", dtype, forward=more)
    assert result.status == "fails" and result.point["got"] == pytest.approx(
        np.exp(1e-4), rel=1e-6
    )


def test_a_density_that_is_not_a_number():
    def nan(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, np.where(abs(y).reshape(len(y), -1).max(1) > 1, np.nan, log_det)

    result = judge_faulty("affine/line", "normalization", forward=nan)
    assert "the density is not a number at [" in result.message


@DTYPES
def test_samples_of_another_distribution(dtype):
    def wider(spec, y, context):
        return spec.inverse(1.2 * y, context)

    result = judge_faulty("mixture_logistic/line", "sampling", dtype, inverse=wider)
    assert result.status == "fails" and result.point["what"].startswith("CDF of samples by ")


def test_samples_that_are_not_numbers():
    def nan(spec, y, context):
        x, log_det = spec.inverse(y, context)
        return np.where(y > 3, np.nan, x), log_det

    assert "samples are NaN" in judge_faulty("affine/line", "sampling", inverse=nan).message


@DTYPES
@pytest.mark.parametrize("law", ["monotone", "onto"])
@pytest.mark.parametrize(
    "case",
    [
        "affine/shared",
        "mixture_logistic/plateaus",
        "data_logit/8_levels",
        "sigmoid",
        "inverse/sigmoid",
        "inverse/data_logit",
        "coupling/mixture_narrow",
    ],
)
def test_scalars_of_correct_maps_rise_to_both_ends(case, law, dtype):
    assert judge_faulty(case, law, dtype).status == "holds"


@DTYPES
@pytest.mark.parametrize("case", ["mixture_logistic/four_components", "coupling/mixture"])
def test_a_squashed_cdf_is_refused(case, dtype):
    result = judge_faulty(case, "onto", dtype, forward=squashed)
    assert "forward reaches from -13.8155" in result.message and "(-inf, inf)" in result.message


@DTYPES
def test_an_inverse_that_returns_its_bracket_is_refused(dtype):
    result = judge_faulty("mixture_logistic/line", "onto", dtype, inverse=saturated_inverse)
    assert result.status == "fails" and "forward(inverse(" in result.message


def test_an_inverse_that_overflows_is_refused():
    def overflowing(spec, y, context):
        x, log_det = spec.inverse(y, context)
        return np.where(abs(y) > 200, np.inf, x), log_det

    result = judge_faulty("affine/shared", "onto", inverse=overflowing)
    assert "inverse is not finite at" in result.message


@DTYPES
def test_a_fall_is_refused(dtype):
    def dented(spec, x, context):
        y, log_det = spec.forward(x, context)
        return np.where(abs(x - 4.0) < 0.3, y - 5.0, y), log_det

    result = judge_faulty("affine/shared", "monotone", dtype, forward=dented)
    assert result.status == "fails" and "y rises from x = " in result.message


def test_memory_read_in_storage_order():
    def in_storage_order(spec, x, context):
        return spec.forward(np.ravel(x, order="K").reshape(x.shape), context)

    result = judge_faulty("affine/shared", "layout", forward=in_storage_order)
    assert result.status == "fails" and "memory" in result.hint
    assert judge_faulty("affine/shared", "layout").status == "holds"


def test_read_only_memory_written_to():
    def in_place(spec, x, context):
        x += 0.0
        return spec.forward(x, context)

    assert "read-only" in judge_faulty("affine/shared", "layout", forward=in_place).message


def test_randomness():
    rng = np.random.default_rng(0)

    def noisy(spec, x, context):
        y, log_det = spec.forward(x, context)
        return y, log_det * (1 + 1e-15 * rng.standard_normal(log_det.shape))

    result = judge_faulty("affine/shared", "determinism", forward=noisy)
    assert result.status == "fails" and "randomness" in result.hint


def test_a_buffer_returned_twice():
    buffers = {}

    class Buffered(FaultyBijector):
        def forward(self, x, context=None):
            y, log_det = self.spec.forward(x, context)
            buffer = buffers.setdefault(y.shape, np.empty_like(y))
            buffer[...] = y
            return buffer, log_det

    class Adapter(ReferenceAdapter):
        def build(self, spec):
            return Buffered(spec, {})

    result = Judge(Adapter).judge(CASES["affine/shared"], LAWS["determinism"], "float64")
    assert result.message.endswith("the result of forward is overwritten by the next call")
    assert "one buffer" in result.hint


def test_the_specification_written_to():
    def writing(spec, x, context):
        answer = spec.forward(x, context)
        shift = spec.shift
        shift.flags.writeable = True
        shift[...] += 1.0
        return answer

    result = judge_faulty("affine/shared", "contract", forward=writing)
    assert "the specification has been written to: shift" in result.message


def test_a_batch_that_depends_on_its_size():
    def truncated(spec, x, context):
        y, log_det = spec.forward(x, context)
        y[8:] = 0.0
        return y, log_det

    result = judge_faulty("affine/shared", "batch", forward=truncated)
    assert "three times as many, shuffled" in result.message
