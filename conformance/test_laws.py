"""Every case under every law that applies to it, at both dtypes.

`pytest --pyargs conformance --adapter module:Class` judges another implementation. The other
options are those of `python -m conformance`, with values separated by spaces (`--laws "forward
inverse"`). Each may also be given in the environment: `CONFORMANCE_ADAPTER`, `CONFORMANCE_SEED`
and so on. The matrix of errors is printed at the end of the run.
"""

from __future__ import annotations

import argparse

import pytest

from conformance.judging import xfails
from conformance.judging.command import not_negative
from conformance.judging.judge import Judge
from conformance.judging.options import Options
from conformance.judging.plan import plan, select
from conformance.judging.precision import accept
from conformance.reports.result import as_json
from conformance.reports.terminal import failure

from .adapter import DTYPES
from .cases import CASES
from .laws import LAWS
from .pytest_plugin import chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate one test for each cell of the plan that the options choose."""
    names = ("cases", "laws", "dtype", "bijectors")
    try:
        cells = list(plan(*(chosen(metafunc.config, name).split() for name in names)))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    if not cells:
        raise pytest.UsageError("none of these laws applies to any of these cases")
    ids = [f"{case.name}-{law.name}-{dtype}" for case, law, dtype in cells]
    metafunc.parametrize(("case", "law", "dtype"), cells, ids=ids)


def _number(config: pytest.Config, name: str) -> float:
    try:
        return not_negative(chosen(config, name))
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"--{name} {error}") from error


@pytest.fixture(scope="module")
def judge(pytestconfig: pytest.Config) -> Judge:
    options = Options(
        chosen(pytestconfig, "adapter"),
        int(chosen(pytestconfig, "seed")),
        chosen(pytestconfig, "device"),
        int(chosen(pytestconfig, "examples")),
        _number(pytestconfig, "timeout") or None,
        select(chosen(pytestconfig, "dtype").split(), list(DTYPES), "dtype"),
    )
    try:
        return options.judge()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="module")
def known(pytestconfig: pytest.Config) -> list[xfails.Xfail]:
    file = chosen(pytestconfig, "xfails")
    return xfails.read(file, cases=CASES, laws=LAWS) if file else []


@pytest.fixture(scope="module")
def tolerance(pytestconfig: pytest.Config) -> float:
    return _number(pytestconfig, "tolerance")


def test_law(judge: Judge, known, tolerance, case, law, dtype, record_property) -> None:
    result = xfails.apply(judge.judge(case, law, dtype), known)
    result = accept(result, tolerance)
    record_property("conformance_result", as_json([result])[0])
    if result.status == "expected":
        pytest.xfail(result.message)
    if result.status in ("left out", "unsupported"):
        pytest.skip(f"{result.status}: {result.message}")
    if result.status != "holds" and not result.accepted:
        pytest.fail(failure(result), pytrace=False)
