"""Running a plan, in this process or in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from conformance.judging.case_warnings import named_warnings
from conformance.judging.crash_log import CrashLog
from conformance.judging.options import Options
from conformance.judging.plan import Plan
from conformance.judging.worker_pool import WorkerPool
from conformance.reports.result import Result


def judge_in_process(options: Options, plan: Plan) -> Iterator[Result]:
    """Judge one cell after the other. A hang inside C code or a crash ends the run.

    Raises:
        ValueError: The adapter does not exist, or refuses the device or every dtype.
    """
    judge = options.judge()
    log = CrashLog()
    for planned in plan:
        case, law, dtype = planned
        with named_warnings(f"{case.name} | {law.name} | {dtype}"):
            result = log.not_tried(planned) or judge.judge(*planned)
        log.record(result)
        yield result


def judge_in_workers(options: Options, plan: Plan, jobs: int = 1) -> Iterator[Result]:
    """Judge in worker processes, which may hang or crash without ending the run.

    Results come in the plan's order, and whatever depends on earlier results is decided in that
    order, so the report does not depend on the number of workers.

    Raises:
        ValueError: The adapter does not exist, or refuses the device or every dtype.
    """
    log = CrashLog()
    groups = [list(group) for _, group in groupby(plan, key=lambda cell: (cell[0].name, cell[2]))]
    with WorkerPool(options, jobs) as pool:
        futures = [pool.submit(group) for group in groups]
        for group, future in zip(groups, futures, strict=True):
            judged: Iterator[Result] | None = None
            for planned in group:
                result = log.not_tried(planned)
                if result is None:
                    judged = judged or iter(future.result())
                    result = next(judged)
                    log.record(result)
                yield result
