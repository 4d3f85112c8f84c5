"""Every case under every law that speaks of it, at both dtypes.

`pytest --pyargs conformance --adapter module:Class` judges another implementation; the other
options are those of `python -m conformance`, values between spaces (`--laws "forward inverse"`).
Each may also come from the environment, as `CONFORMANCE_ADAPTER`, `CONFORMANCE_SEED` and so on. At
the end of the run the matrix of errors is printed.
"""

from __future__ import annotations

import pytest

from conformance.judging import xfails
from conformance.judging.judge import Judge
from conformance.judging.options import Options
from conformance.judging.plan import plan, select
from conformance.judging.result import as_json
from conformance.reports.terminal import failure

from .adapter import DTYPES
from .cases import CASES
from .laws import LAWS
from .pytest_plugin import chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each cell of the plan that the options choose."""
    names = ("cases", "laws", "dtype", "bijectors")
    try:
        cells = list(plan(*(chosen(metafunc.config, name).split() for name in names)))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    ids = [f"{case.name}-{law.name}-{dtype}" for case, law, dtype in cells]
    metafunc.parametrize(("case", "law", "dtype"), cells, ids=ids)


@pytest.fixture(scope="module")
def judge(pytestconfig: pytest.Config) -> Judge:
    options = Options(
        chosen(pytestconfig, "adapter"),
        int(chosen(pytestconfig, "seed")),
        chosen(pytestconfig, "device"),
        int(chosen(pytestconfig, "examples")),
        float(chosen(pytestconfig, "timeout")),
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


def test_law(judge: Judge, known, case, law, dtype, record_property) -> None:
    cell = xfails.apply(judge.judge(case, law, dtype), known)
    record_property("conformance_result", as_json([cell])[0])
    if cell.status == "expected":
        pytest.xfail(cell.message)
    if cell.status in ("left out", "unsupported"):
        pytest.skip(f"{cell.status}: {cell.message}")
    assert cell.status == "holds", failure(cell)
