"""Worker processes that share a plan."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from conformance.judging.crash_log import is_lost
from conformance.judging.options import Options
from conformance.judging.plan import Plan
from conformance.judging.worker import Worker
from conformance.reports.result import Result


class WorkerPool:
    """A pool of worker processes, each with a thread that waits for it.

    All laws of a case at a dtype go to one worker, where they share their intermediate results.
    """

    def __init__(self, options: Options, jobs: int) -> None:
        self._workers = [Worker(options) for _ in range(jobs)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(jobs)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill all workers, whatever they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()

    def submit(self, cells: Plan) -> Future[list[Result]]:
        """Judge the cells of one case at one dtype, up to and including the first lost one."""
        return self._threads.submit(self._judge, cells)

    def _judge(self, cells: Plan) -> list[Result]:
        worker = self._idle.get()
        results = []
        try:
            for planned in cells:
                results.append(worker.judge(planned))
                if is_lost(results[-1]):
                    break
        finally:
            self._idle.put(worker)
        return results
