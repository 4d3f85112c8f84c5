"""Options of a run: the same for the command line, its workers, and pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.adapter import DTYPES, NotSupported, load
from conformance.judging import integrity
from conformance.judging.judge import Judge


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        adapter: Name of the adapter, `module:Class`.
        seed, device, examples, timeout: See `Judge`.
        dtypes: Names of the dtypes in the plan.
    """

    adapter: str
    seed: int = 0
    device: str = "cpu"
    examples: int = 1
    timeout: float | None = 60.0
    dtypes: Sequence[str] = DTYPES

    def judge(self) -> Judge:
        """Load and prepare the adapter, and return its judge.

        Raises:
            ValueError: The adapter does not exist, refuses the device or every dtype, or has
                replaced parts of the suite, of the reference or of NumPy.
        """
        intact = integrity.snapshot()
        adapter = load(self.adapter)
        refusals = []
        for dtype in self.dtypes:
            try:
                instance = adapter(dtype=dtype, device=self.device)  # type: ignore[arg-type]
                # Compilation must not count against the time limit of the first case.
                getattr(instance, "prepare", lambda: None)()
            except NotSupported as reason:
                refusals.append(str(reason))
            except (Exception, SystemExit):
                pass  # not a refusal; it is reported in the cells, where it occurs again
        changes = integrity.changes(intact)
        if changes:
            raise ValueError(f"{self.adapter}: {integrity.message(changes)}")
        if refusals and len(refusals) == len(self.dtypes):
            raise ValueError(f"{self.adapter} does not support these options: {refusals[0]}")
        return Judge(
            adapter,
            seed=self.seed,
            device=self.device,
            examples=self.examples,
            timeout=self.timeout,
            name=self.adapter,
            intact=intact,
        )
